"""Renders a published version's card again, from its manifest and its record."""

from argparse import Namespace

from rich.console import Console

from training.export.published import find_version
from training.registry import read_manifest
from training.report.card import CARD, render_card


def run(arguments: Namespace, console: Console) -> None:
    """Renders the card of a version, in place."""
    folder = find_version(arguments.models, arguments.model)
    render_card(folder, read_manifest(folder))
    console.print(f"rendered {folder / CARD}", highlight=False, soft_wrap=True)
