"""What the report says of variants that were tried, beside what the manifest says of those that were kept."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from training.export.variants import Trial, gain_of
from training.report.plots import ACCENT, MEASURED, save_plot
from training.report.record import update_record

# Of the vertical axis: a smaller range would exaggerate differences that are noise.
_LEAST_RANGE = 0.04


def write_variants(folder: Path, trials: Sequence[Trial]) -> None:
    """Records the rejected variants of the version in `folder`, and draws all that were timed."""
    rejected = [
        {
            "name": trial.name,
            "device": trial.device,
            "method": trial.method,
            "validation": trial.validation.value,
            "size": trial.size,
            "speedups": [f"{gain_of(speed):.1f}" for speed in trial.speed],
            "reason": trial.rejection_reason,
        }
        for trial in trials
        if trial.rejection_reason
    ]
    update_record(folder, rejected_variants=rejected)
    if timed := [trial for trial in trials if trial.speed]:
        save_plot(folder, "variants.png", 5, 3.4, lambda axes: _draw(axes[0], timed))


def _draw(axis: Axes, trials: Sequence[Trial]) -> None:
    first = trials[0]
    points = {"reference": (first.speed[-1].reference, first.validation.reference)}
    points |= {trial.name: (trial.speed[-1].items_per_second, trial.validation.value) for trial in trials}
    for name, (speed, value) in points.items():
        axis.scatter(speed, value, color=MEASURED if name == "reference" else ACCENT)
        axis.annotate(name, (speed, value), xytext=(5, 5), textcoords="offset points")
    axis.set(
        xlabel=f"items per second in batches of {first.speed[-1].batch}", ylabel=f"validation {first.validation.figure}"
    )
    axis.margins(0.2)
    low, high = axis.get_ylim()
    if high - low < _LEAST_RANGE:
        middle = (low + high) / 2
        axis.set_ylim(middle - _LEAST_RANGE / 2, middle + _LEAST_RANGE / 2)
