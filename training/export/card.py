"""Renders again what a published model's card takes from its manifest: training, history, what it does not know.

It needs no data, and leaves the figures, tables and pictures that need some as they are.
"""

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from service.inference.cards import ManifestBase
from service.tasks.registry import read_manifest
from training.export.published import find_version
from training.report.familiarity_section import write_familiarity
from training.report.history_section import CARD, write_history
from training.report.markdown import training_section


def run(arguments: Namespace, console: Console) -> None:
    """Renders the card of a version, in place."""
    folder = find_version(arguments.models, arguments.model)
    render(folder, read_manifest(folder))
    console.print(f"rendered {folder / CARD}", highlight=False, soft_wrap=True)


def render(folder: Path, manifest: ManifestBase) -> None:
    """Renders the card of the version in `folder`."""
    card = folder / CARD
    write_familiarity(card, manifest)
    heading, paragraph, *_ = training_section(manifest)
    before, found, after = card.read_text().partition(f"\n{heading}\n\n")
    if found:
        card.write_text(before + found + "\n\n".join((paragraph, after.partition("\n\n")[2])))
    write_history(card, manifest)
