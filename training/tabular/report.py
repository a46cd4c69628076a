"""The report of a network for tables: its plots, what its card reads of the record, and a sheet of rows."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from PIL import Image
from sklearn.metrics import confusion_matrix

from service.tasks.tabular.columns import ColumnCard
from training.report.plots import ACCENT, GUIDE, PREDICTED, TRAINING, TRUE, WIDTH, draw_confusion, save_plot
from training.report.record import update_record
from training.report.samples import LINES, table_of
from training.tabular.data import TabularData
from training.tabular.evaluation import MOST_SHUFFLED

_MOST_DRAWN = 60


def write_report(
    folder: Path, data: TabularData, predicted: npt.NDArray[np.float64], importance: npt.NDArray[np.float64]
) -> None:
    """Draws and records what was measured on the test rows of the version in `folder`.

    `predicted` are classes or numbers, shape (n,); `importance` is as `permutation_importance` returns it.
    """
    order = np.argsort(-importance.mean(1), kind="stable")
    drawn = order[:_MOST_DRAWN][::-1]
    target, classes = data.test.targets, data.classes
    shuffled = min(len(data.test), MOST_SHUFFLED)

    def draw_importance(axes: Sequence[Axes]) -> None:
        _draw_importance(axes[0], importance[drawn], [data.columns[index] for index in drawn], shuffled, bool(classes))

    def draw_predictions(axes: Sequence[Axes]) -> None:
        if classes:
            matrix = confusion_matrix(target, predicted, labels=range(len(classes)))
            draw_confusion(axes[0], matrix, classes, f"Test rows by {TRUE} and {PREDICTED} class")
            return
        axes[0].scatter(target, predicted, s=12, alpha=0.6, color=ACCENT)
        ends = float(target.min()), float(target.max())
        axes[0].plot(ends, ends, color=GUIDE, linewidth=1, zorder=0)
        axes[0].set(xlabel=f"{data.target}, {TRUE}", ylabel=f"{data.target}, {PREDICTED}", title="Test rows")

    save_plot(folder, "importance.png", WIDTH, 1.3 + 0.22 * len(drawn), draw_importance)
    save_plot(folder, "predictions.png", 4.6, 4.2, draw_predictions)
    rows = [
        {
            "column": data.layout[index].name,
            "kind": data.layout[index].kind,
            "drop": float(importance[index].mean()),
            "values": _summary(data.layout[index]),
            "missing": data.layout[index].missing,
        }
        for index in order
    ]
    update_record(folder, importance=rows, shuffles=importance.shape[1], shuffled=shuffled)


def _draw_importance(
    axis: Axes, losses: npt.NDArray[np.float64], names: Sequence[str], rows: int, are_rows: bool
) -> None:
    """A dot for every outcome, the larger the more shuffles had it, and a line for the mean.

    Losses of accuracy, shape (columns, shuffles), are shown as numbers of rows.
    """
    axis.axvline(0, color=GUIDE, linewidth=1, zorder=0)
    for place, outcomes in enumerate(losses * rows if are_rows else losses):
        values, counts = np.unique(outcomes.round() if are_rows else outcomes, return_counts=True)
        axis.scatter(values, [place] * len(values), s=110 * counts / len(outcomes) + 3, color=TRAINING, linewidth=0)
        axis.plot([outcomes.mean()] * 2, (place - 0.3, place + 0.3), color=ACCENT, linewidth=3)
    axis.scatter([], [], s=40, color=TRAINING, label=f"{losses.shape[1]} shuffles (size: how many)")
    axis.plot([], [], color=ACCENT, linewidth=3, label="their mean")
    axis.legend(loc="lower right")
    axis.set_yticks(range(len(names)), names)
    what = f"of {rows:,} test rows, so many more are wrong" if are_rows else "drop in R²"
    axis.set(xlabel=f"{what}\nwhen the column is shuffled", ylim=(-0.7, len(names) - 0.3))


def _summary(card: ColumnCard) -> tuple[str, ...]:
    """The mean, the lowest and the highest value of a column; of a category its words."""
    if card.kind == "category":
        more = f" and {len(card.values) - 5} more" if len(card.values) > 5 else ""
        return (", ".join(card.values[:5]) + more, "", "")

    def written(value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:.4g}" if card.origin is None else str(card.origin + timedelta(days=round(value)))

    return tuple(map(written, (card.mean, card.low, card.high)))


def draw_rows(data: TabularData) -> Image.Image:
    """Training rows as they are understood, with their targets: numbers, dates and words as the table writes them."""

    def cell(value: Any) -> str:
        return "–" if value is None else f"{value:.7g}" if isinstance(value, float) else str(value)

    def row(index: int) -> list[str]:
        target = data.train.targets[index]
        cells = zip(data.layout, data.train.rows[index], strict=True)
        first = data.classes[int(target)] if data.classes else f"{target:.4g}"
        return [first, *(cell(card.write(float(value))) for card, value in cells)]

    return table_of((data.target, *data.columns), map(row, range(min(LINES, len(data.train)))))
