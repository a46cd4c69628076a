"""The text that all model cards share: tables, and what they say about a training."""

from collections.abc import Sequence
from typing import Any

from service.inference.cards import ManifestBase, VariantCard
from service.tasks.cards import Calibration, ConformalPoint


def table(header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def figures(*values: float) -> tuple[str, ...]:
    """Figures with four decimals."""
    return tuple(f"{value:.4f}" for value in values)


def interval(manifest: ManifestBase | VariantCard, name: str) -> str:
    """The 95 % interval of a figure in brackets; nothing where it is not known."""
    if name not in manifest.intervals:
        return ""
    low, high = manifest.intervals[name]
    return f" (95 % interval {low:.4f} to {high:.4f})"


def calibrated_by(calibration: Calibration) -> str:
    """What was done to the network's answers, as the end of a sentence."""
    if calibration.exponent == 1:
        return f"after dividing the logits by the temperature {calibration.temperature:.3f}"
    return (
        f"after dividing the log-probabilities by the temperature {calibration.temperature:.3f} and raising the "
        f"quotients to the power {calibration.exponent:.3f}, which makes high confidences "
        f"{'higher' if calibration.exponent > 1 else 'lower'} and those in the middle "
        f"{'lower' if calibration.exponent > 1 else 'higher'} without changing the order of the labels"
    )


def label_set_table(points: Sequence[ConformalPoint]) -> str:
    """The actual coverage and the mean size of the label sets, for some of the requested coverages."""
    return table(
        ("requested coverage", "threshold", "coverage on test", "labels per set"),
        [
            (f"{p.coverage:.2f}", f"{p.threshold:.4f}", f"{p.test_coverage:.4f}", f"{p.mean_set_size:.2f}")
            for p in points
            if round(p.coverage * 100) % 5 == 0 or p.coverage > 0.95
        ],
    )


def training_section(manifest: ManifestBase, items: str, seconds: float, origin: str = "") -> list[str]:
    """How it was trained: duration, learning curves, every setting.

    Args:
        manifest: of the version.
        items: what the data consists of, in the plural.
        seconds: the duration of the training.
        origin: a clause that says where the validation items come from, if they had to be held out.
    """
    training, count = manifest.training, manifest.data.validation
    chosen_on = f"the {count:,} validation {items}{origin}"
    if training.chosen_on is not None:
        chosen_on = f"{training.chosen_on:,} of {chosen_on}; the others calibrate"
    duration = f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    return [
        "## Training",
        f"`{training.recipe}`, {training.epochs_run} epochs in {duration}; epoch "
        f"{training.best_epoch} was the best on {chosen_on}. The test split was only used for the figures here.",
        "![Learning curves](learning-curves.png)",
        table(("setting", "value"), [(key, f"`{value}`") for key, value in training.settings.items()]),
    ]


def provenance(manifest: ManifestBase, onnx_difference: str) -> list[str]:
    """The data, seed and library versions that made it."""
    versions = ", ".join(f"{name} {version}" for name, version in manifest.training.versions.items())
    return [
        "## Provenance",
        f"Data fingerprint `{manifest.data.fingerprint}`; seed {manifest.training.settings['seed']}; {versions}. The "
        f"exported graph differs from PyTorch by at most {onnx_difference} at batches of 1, 2, 7 and "
        f"{manifest.max_batch}.",
    ]
