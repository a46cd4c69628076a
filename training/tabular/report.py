"""The report of a network for tables: its plots, what its card reads of the record, and a sheet of rows."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from PIL import Image
from sklearn.metrics import confusion_matrix

from service.tasks.tabular.columns import ColumnCard
from training.report.plots import ACCENT, GUIDE, MEASURED, PREDICTED, TRUE, draw_confusion, save_plot
from training.report.record import update_record
from training.report.samples import LINES, table_of
from training.tabular.data import TabularData

_MOST_DRAWN = 60


def write_report(
    folder: Path, data: TabularData, predicted: npt.NDArray[np.float64], importance: npt.NDArray[np.float64]
) -> None:
    """Draws and records what was measured on the test rows of the version in `folder`.

    Args:
        folder: of the version.
        data: the rows.
        predicted: classes or numbers, shape (n,).
        importance: the drop of the figure, shape (columns, shuffles).
    """
    order = np.argsort(-importance.mean(1), kind="stable")
    drawn = order[:_MOST_DRAWN]
    height = 1 + 0.24 * len(drawn)
    save_plot(folder, "importance.png", 7, height, lambda axes: _draw_importance(axes[0], data, importance, drawn))
    save_plot(folder, "predictions.png", 4.6, 4.2, lambda axes: _draw_predictions(axes[0], data, predicted))
    rows = [
        {
            "column": card.name,
            "kind": card.kind,
            "drop": float(importance[index].mean()),
            "values": _summary(card),
            "missing": card.missing,
        }
        for index in order
        for card in (data.layout[index],)
    ]
    update_record(folder, importance=rows, shuffles=importance.shape[1])


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


def _draw_importance(
    axis: Axes, data: TabularData, importance: npt.NDArray[np.float64], order: npt.NDArray[np.int64]
) -> None:
    shown = order[::-1]
    means, spreads = importance[shown].mean(1), importance[shown].std(1)
    axis.barh(range(len(shown)), means, xerr=spreads, color=ACCENT, ecolor=MEASURED)
    axis.axvline(0, color=GUIDE, linewidth=1, zorder=0)
    axis.set_yticks(range(len(shown)), [data.layout[index].name for index in shown])
    axis.set(
        xlabel=f"drop in {'accuracy' if data.kind == 'classification' else 'R²'} when the column is shuffled",
        title="Permutation importance (mean and standard deviation)",
        ylim=(-0.6, len(shown) - 0.4),
    )


def _draw_predictions(axis: Axes, data: TabularData, predicted: npt.NDArray[np.float64]) -> None:
    if data.kind == "classification":
        matrix = confusion_matrix(data.test.targets, predicted, labels=range(len(data.classes)))
        draw_confusion(axis, matrix, data.classes, f"Test rows by {TRUE} and {PREDICTED} class")
        return
    axis.scatter(data.test.targets, predicted, s=12, alpha=0.6, color=ACCENT)
    low, high = float(data.test.targets.min()), float(data.test.targets.max())
    axis.plot((low, high), (low, high), color=GUIDE, linewidth=1, zorder=0)
    axis.set(xlabel=f"{data.target}, {TRUE}", ylabel=f"{data.target}, {PREDICTED}", title="Test rows")


def draw_rows(data: TabularData) -> Image.Image:
    """Training rows as they are understood, with their targets: numbers, dates and words as the table writes them."""
    chosen = range(min(LINES, len(data.train)))

    def row(index: int) -> list[str]:
        target = data.train.targets[index]
        return [
            data.classes[int(target)] if data.classes else f"{target:.4g}",
            *(_cell(card, value) for card, value in zip(data.layout, data.train.rows[index], strict=True)),
        ]

    return table_of((data.target, *data.columns), map(row, chosen))


def _cell(card: ColumnCard, value: float) -> str:
    written = card.write(float(value))
    if written is None:
        return "–"
    return f"{written:.7g}" if isinstance(written, float) else str(written)
