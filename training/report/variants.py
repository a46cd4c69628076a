"""The section of variants of a report, and its plot."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from service.inference.cards import ManifestBase
from training.export.variants import Trial, gain_of
from training.report.markdown import table
from training.report.plots import ACCENT, MEASURED, save_plot

_HEADING = "## Variants"
_PLOT = "variants.png"
# Of the vertical axis.
_LEAST_RANGE = 0.04


def write_variants(folder: Path, manifest: ManifestBase, trials: list[Trial]) -> None:
    """Writes the report's section of variants, in place of an earlier one, and its plot.

    Args:
        folder: of the report.
        manifest: of the version, with the variants that were kept.
        trials: all that were tried.
    """
    folder = folder / "report"
    folder.mkdir(exist_ok=True)
    card = folder / "README.md"
    text = card.read_text() if card.exists() else f"# {manifest.name}\n"
    before, _, rest = text.partition(f"\n{_HEADING}\n")
    _, _, after = rest.partition("\n## ")
    section = "\n\n".join(_section(manifest, trials))
    card.write_text(f"{before}\n{section}\n" + (f"\n## {after}" if after else ""))
    if any(trial.speed for trial in trials):
        save_plot(folder / _PLOT, 5, 3.4, 1, lambda axes: _plot(axes[0], trials))


def _section(manifest: ManifestBase, trials: list[Trial]) -> list[str]:
    figure = trials[0].validation.figure
    reference = trials[0].validation.reference
    headline = manifest.headline
    cards = {card.name: manifest.as_variant(card).headline for card in manifest.variants}
    rows: list[tuple[Any, ...]] = [
        ("reference", "any", f"{reference:.4f}", *_numbers(headline), f"{trials[0].reference_size / 1e6:.1f}", "1", "")
    ]
    for trial in trials:
        gains = " / ".join(f"{gain_of(speed):.1f}" for speed in trial.speed) or "–"
        test = _numbers(cards[trial.name]) if trial.kept else ["–"] * len(headline)
        rows.append(
            (trial.name, trial.device, f"{trial.validation.value:.4f}", *test, f"{trial.size / 1e6:.1f}", gains,
             trial.rejection_reason or "kept")
        )  # fmt: skip
    batches = " / ".join(str(speed.batch) for trial in trials for speed in trial.speed[:3] if trial is trials[0])
    measured = next((trial.speed[0] for trial in trials if trial.speed), None)
    where = f" Measured on {measured.machine} with {measured.threads} thread." if measured else ""
    return [
        _HEADING,
        "Graphs of the same inputs and outputs. A variant is kept if its figure on validation falls by less than the "
        "rule allows, and if it is 1.3 times as fast or half as large; test was looked at only for those that are "
        f"kept.{where}",
        table(
            ("variant", "device", f"validation {figure}", *(f"test {name}" for name in headline), "MB",
             f"times as fast, at batches of {batches}", ""),
            rows,
        ),
        *(f"- {trial.name}: {trial.method}.{_golden_rows(manifest, trial.name)}" for trial in trials),
        f"![{figure} against speed]({_PLOT})" if measured else "",
    ]  # fmt: skip


def _golden_rows(manifest: ManifestBase, name: str) -> str:
    golden = next((card.golden for card in manifest.variants if card.name == name), None)
    if golden is None or golden.chosen_from is None:
        return ""
    return (
        f" Its golden file has {golden.rows} of {golden.chosen_from} inputs, those for which the kernels of the "
        "machine that wrote it differ least."
    )


def _numbers(headline: dict[str, float]) -> list[str]:
    return [f"{value:.4f}" for value in headline.values()]


def _plot(axis: Axes, trials: list[Trial]) -> None:
    measured = [trial for trial in trials if trial.speed]
    points = {"reference": (measured[0].speed[-1].reference, measured[0].validation.reference)}
    points |= {trial.name: (trial.speed[-1].items_per_second, trial.validation.value) for trial in measured}
    for name, (speed, value) in points.items():
        axis.scatter(speed, value, color=MEASURED if name == "reference" else ACCENT)
        axis.annotate(name, (speed, value), xytext=(5, 5), textcoords="offset points")
    axis.set(
        xlabel=f"items per second in batches of {measured[0].speed[-1].batch}",
        ylabel=f"validation {measured[0].validation.figure}",
    )
    axis.margins(0.2)
    # A smaller range would make much of differences that are chance.
    low, high = axis.get_ylim()
    if high - low < _LEAST_RANGE:
        middle = (low + high) / 2
        axis.set_ylim(middle - _LEAST_RANGE / 2, middle + _LEAST_RANGE / 2)
