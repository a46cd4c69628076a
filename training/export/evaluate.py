"""Measures a published model anew and writes its report: a new version with the same weights, without a training.

This is for changes since it was published: of how figures are measured, of what chooses thresholds, of reports. What a
detector keeps of its boxes is chosen anew too, and with `--calibrate` how a classifier is calibrated.
"""

from argparse import Namespace
from pathlib import Path

from rich.console import Console

from service.inference.cards import ManifestBase
from training.export import history
from training.export.published import evaluator_for, publish_changed, reload


def run(arguments: Namespace, console: Console) -> None:
    """Evaluates, and publishes the version."""

    def renew(target: Path, manifest: ManifestBase) -> ManifestBase:
        evaluator = evaluator_for(manifest, target, reload(manifest, target, arguments))
        renewed = evaluator.renew(target, manifest, fit=arguments.calibrate)
        return history.with_uses(renewed, *evaluator.measured(fit=arguments.calibrate))

    publish_changed(arguments, console, "evaluate", renew)
