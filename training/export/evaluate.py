"""Measures a published model anew and writes its report: a new version with the same weights, without a training.

This is for changes since it was published: of how figures are measured, of what chooses thresholds, of reports. What a
detector keeps of its boxes is chosen anew too, and with `--calibrate` how a classifier is calibrated.
"""

import re
from argparse import Namespace
from pathlib import Path

from rich.console import Console

from service.inference.cards import ManifestBase
from training.export import history
from training.export.published import evaluator_for, publish_changed, reload

# What only the training knows is kept of the old report.
_KEPT = ("## The effect of filters, layers and dropout", "## What it does not know", "## Variants")
_COMPARED, _LAST = "## Comparison of architectures", "## Provenance"


def run(arguments: Namespace, console: Console) -> None:
    """Evaluates, and publishes the version."""

    def renew(target: Path, manifest: ManifestBase) -> ManifestBase:
        evaluator = evaluator_for(manifest, target, reload(manifest, target, arguments))
        card = target / "report" / "README.md"
        before = card.read_text() if card.exists() else ""
        renewed = evaluator.renew(target, manifest, fit=arguments.calibrate)
        _keep_sections(card, before)
        return history.with_uses(renewed, *evaluator.measured(fit=arguments.calibrate))

    publish_changed(arguments, console, "evaluate", renew)


def _keep_sections(card: Path, before: str) -> None:
    """Puts what only a training knows back into a report, and removes the pictures that it no longer shows."""
    text = card.read_text()
    if comparison := _section(before, _COMPARED):
        text = text.replace(_section(text, _COMPARED), comparison)
    kept = [_section(before, heading) for heading in _KEPT if heading not in text]
    kept.append(_section(before, _LAST) or _section(text, _LAST))
    text = text.partition(f"{_LAST}\n")[0] + "\n".join(filter(None, kept))
    card.write_text(text)
    shown = set(re.findall(r"\]\(([^)/]+)\)", text))
    for picture in (*card.parent.glob("*.png"), *card.parent.glob("*.jpg")):
        if picture.name not in shown:
            picture.unlink()


def _section(text: str, heading: str) -> str:
    """A section of a report with its heading; empty if there is none."""
    _, found, rest = f"\n{text}".partition(f"\n{heading}\n")
    return f"{heading}\n{rest.partition(chr(10) + '## ')[0]}" if found else ""
