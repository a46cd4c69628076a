"""Measures a published model anew and writes its report: a new version with the same weights, without a training.

This is for changes since it was published: of how figures are measured, of what chooses thresholds, of reports. What a
detector keeps of its boxes is chosen anew too, and with `--calibrate` how a classifier is calibrated.
"""

from pathlib import Path
from typing import Any

from rich.console import Console

from service.inference.cards import ManifestBase
from training.export import history
from training.export.published import publish_changed, reload
from training.registry import recipe_of


def run(options: Any, console: Console) -> None:
    """Evaluates, and publishes the version."""

    def renew(target: Path, manifest: ManifestBase) -> ManifestBase:
        data = reload(manifest, target, options)
        evaluator = recipe_of(manifest).evaluator(manifest, target, data)
        renewed = evaluator.renew(target, manifest, fit=options.calibrate)
        return history.with_uses(renewed, *evaluator.measured(fit=options.calibrate))

    publish_changed(options, console, "evaluate", renew)
