"""The text that all model cards share: tables, figures, and how a network was trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.inference.cards import ManifestBase, VariantCard
from service.tasks.cards import Calibration, ConformalPoint

_LAST = "## Provenance"


def write_section(card: Path, section: Sequence[str]) -> None:
    """Writes a section into a model card: in place of an earlier one, else before the provenance.

    Args:
        card: its file.
        section: the heading, and what follows it.
    """
    before, found, rest = card.read_text().partition(f"\n{section[0]}\n")
    if found:
        _, heading, after = rest.partition("\n## ")
    else:
        before, heading, after = before.partition(f"\n{_LAST}\n")
    following = f"{heading}{after}" if heading else ""
    written = "\n\n".join(section)
    card.write_text(f"{before.rstrip()}\n\n{written}\n{following}")


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
    shown = [point for point in points if round(point.coverage * 100) % 5 == 0 or point.coverage > 0.95]
    return table(
        (
            "requested coverage",
            "threshold",
            "coverage on test",
            "95 % interval",
            "requested lies in it",
            "expected if exchangeable",
            "on calibration items, cross-fitted",
            "labels per set",
        ),
        [
            (
                f"{p.coverage:.2f}",
                f"{p.threshold:.4f}",
                f"{p.test_coverage:.4f}",
                _range(p.test_interval),
                _position(p.coverage, p.test_interval),
                _range(p.expected),
                "–" if p.cross_fitted is None else f"{p.cross_fitted:.4f}",
                f"{p.mean_set_size:.2f}",
            )
            for p in shown
        ],
    )


def label_set_notes(points: Sequence[ConformalPoint]) -> str:
    """What the columns of `label_set_table` mean, and at which requests the test split differs from validation."""
    if not all(point.expected for point in points):
        return "The coverage that is expected was not recorded."
    lacking = [f"{p.coverage:.2f}" for p in points if p.expected and p.test_coverage < p.expected[0]]
    differs = (
        f"At {', '.join(lacking)} the coverage on test is below the expected range, which is evidence that the test "
        "split differs from the validation split; compare the cross-fitted coverage."
        if lacking
        else "The coverage on test is nowhere below the expected range."
    )
    return (
        "The interval is Clopper and Pearson's, of the coverage on test with the threshold as it is. The expected "
        "range holds 95 % of the coverages on test splits of this size with thresholds fitted on as many calibration "
        "items, if both are exchangeable. The likeliest label, which is always in the set, may lead above it. "
        "Cross-fitted, each tenth of the calibration items gets the threshold of the other nine tenths. " + differs
    )


def _range(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _position(coverage: float, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "–"
    low, high = interval
    return "yes" if low <= coverage <= high else "no, exceeded" if coverage < low else "no, not reached"


def training_section(manifest: ManifestBase) -> list[str]:
    """How the network was trained: epochs, duration, learning curves, every setting."""
    training = manifest.training
    return [
        "## Training",
        f"`{training.recipe}`: {count(training.epochs_run, 'epoch')} in {lasted(training.seconds)}; the weights are "
        f"those of epoch {training.best_epoch}. The section History says what chose it.",
        "![Learning curves](learning-curves.png)",
        table(("setting", "value"), [(key, f"`{value}`") for key, value in training.settings.items()]),
    ]


def lasted(seconds: float) -> str:
    """A duration in words."""
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def count(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def provenance(manifest: ManifestBase, onnx_difference: str) -> list[str]:
    """The data, seed and library versions that made it."""
    versions = ", ".join(f"{name} {version}" for name, version in manifest.training.versions.items())
    return [
        "## Provenance",
        f"Data fingerprint `{manifest.data.fingerprint}`; seed {manifest.training.settings['seed']}; {versions}. The "
        f"exported graph differs from PyTorch by at most {onnx_difference} at batches of 1, 2, 7 and "
        f"{manifest.max_batch}.",
    ]
