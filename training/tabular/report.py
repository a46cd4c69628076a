"""The model card of a dense network on a table."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.metrics import confusion_matrix

from service.tasks.tabular.columns import ColumnCard
from service.tasks.tabular.manifest import TabularManifest, TabularMetrics
from training.engine.fit import FitState
from training.report.markdown import figures, interval, provenance, table, training_section
from training.report.plots import ACCENT, FOUND, GUIDE, MEASURED, TRUE, Curve, draw_confusion, draw_curves, save_plot
from training.tabular.data import TabularData

_MOST_DRAWN = 60


def write_report(
    folder: Path,
    manifest: TabularManifest,
    data: TabularData,
    predicted: npt.NDArray[np.float64],
    importance: npt.NDArray[np.float64],
    state: FitState,
    onnx_difference: float,
) -> None:
    """Writes `README.md` and the plots it shows into `folder`.

    Args:
        folder: is made if it does not exist.
        manifest: of the version.
        data: the test rows.
        predicted: classes or numbers for the test rows, shape (n,).
        importance: shape (columns, repeats).
        state: of the finished training.
        onnx_difference: the largest difference of the exported graph from PyTorch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    label = "cross-entropy" if data.kind == "classification" else "squared error (of the standardised target)"
    save_plot(
        folder / "learning-curves.png",
        6,
        3.4,
        1,
        lambda axes: draw_curves(axes[0], state.history, Curve("loss", label), state.initial),
    )
    order = np.argsort(-importance.mean(1), kind="stable")
    drawn = order[:_MOST_DRAWN]
    height = 1 + 0.24 * len(drawn)
    save_plot(folder / "importance.png", 7, height, 1, lambda axes: _importance(axes[0], manifest, importance, drawn))
    save_plot(folder / "predictions.png", 4.6, 4.2, 1, lambda axes: _predictions(axes[0], data, predicted))
    (folder / "README.md").write_text(_card(manifest, data, importance, order, onnx_difference))


def _card(
    manifest: TabularManifest,
    data: TabularData,
    importance: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
    onnx_difference: float,
) -> str:
    metrics = manifest.metrics
    if metrics.accuracy is not None and manifest.calibration is not None:
        headline = (
            f"**Test accuracy {metrics.accuracy:.4f}**{interval(manifest, 'accuracy')} on {len(data.test)} rows of "
            f"{data.name}, macro F1 {metrics.macro_f1:.4f}{interval(manifest, 'macro_f1')}. The expected calibration "
            f"error is {manifest.calibration.ece_after:.4f} (before temperature scaling "
            f"{manifest.calibration.ece_before:.4f}), for rows like those of the training set."
        )
        figure = "accuracy"
    else:
        headline = (
            f"**R² {metrics.r2:.4f}**{interval(manifest, 'r2')} on {len(data.test)} test rows of {data.name}; root "
            f"mean squared error {metrics.rmse:.4g}{interval(manifest, 'rmse')}, mean absolute error {metrics.mae:.4g}"
            f"{interval(manifest, 'mae')}."
        )
        figure = "R²"
    unused = [name for name in manifest.ignored if name != manifest.target]
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}. Input: {len(manifest.columns)} numbers per row, float32, NaN for a missing value. "
        "Standardisation, the imputation of missing numbers by their mean, and the vectors of words are part of the "
        "graph." + (f" Not used: {', '.join(unused)}." if unused else ""),
        headline,
        f"## Compared with other methods ({figure}, five-fold cross-validation on all but the test rows)",
        table(
            ("method", "mean", "standard deviation over the folds"),
            [(name, *figures(row.mean, row.std)) for name, row in metrics.cross_validated.items()],
        ),
        *_of_classes(metrics),
        "## Predictions",
        "![Predictions on the test rows](predictions.png)",
        "## Permutation importance",
        f"The drop in {figure} on the test rows when the values of one column are shuffled (the mean of "
        f"{importance.shape[1]} shuffles; correlated columns stand in for each other, so each of them seems to matter "
        "little):",
        "![Permutation importance](importance.png)",
        table(
            ("column", "kind", "drop", "training mean or words", "lowest", "highest", "missing"),
            [_row(manifest.columns[index], importance[index].mean()) for index in order],
        ),
        *training_section(manifest),
        *provenance(manifest, f"{onnx_difference:.1g}"),
    ]
    return "\n\n".join(parts) + "\n"


def _of_classes(metrics: TabularMetrics) -> list[str]:
    """The figures of each class."""
    if not metrics.per_class:
        return []
    rows = [(one.label, *figures(one.precision, one.recall, one.f1), one.support) for one in metrics.per_class]
    return ["## Classes", table(("class", "precision", "recall", "F1", "test rows"), rows)]


def _row(card: ColumnCard, drop: float) -> tuple[str, ...]:
    """What the table says about a column."""
    if card.kind == "category":
        shown = ", ".join(card.values[:5]) + (f" and {len(card.values) - 5} more" if len(card.values) > 5 else "")
        about: tuple[str, ...] = (shown, "", "")
    elif card.kind == "date" and card.origin is not None:
        days = (card.mean, card.low, card.high)
        about = tuple(str(card.origin + timedelta(days=round(day))) for day in days if day is not None)
    else:
        about = tuple(f"{value:.4g}" for value in (card.mean, card.low, card.high) if value is not None)
    return (card.name, card.kind, f"{drop:.4f}", *about, f"{card.missing:.1%}")


def _importance(
    axis: Axes, manifest: TabularManifest, importance: npt.NDArray[np.float64], order: npt.NDArray[np.int64]
) -> None:
    shown = order[::-1]
    axis.barh(
        range(len(shown)), importance[shown].mean(1), xerr=importance[shown].std(1), color=ACCENT, ecolor=MEASURED
    )
    axis.axvline(0, color=GUIDE, linewidth=1, zorder=0)
    axis.set_yticks(range(len(shown)), [manifest.columns[index].name for index in shown])
    axis.set(
        xlabel=f"drop in {'accuracy' if manifest.kind == 'classification' else 'R²'} when the column is shuffled",
        title="What the network relies on (mean and spread of the shuffles)",
        ylim=(-0.6, len(shown) - 0.4),
    )


def _predictions(axis: Axes, data: TabularData, predicted: npt.NDArray[np.float64]) -> None:
    if data.kind == "classification":
        matrix = confusion_matrix(data.test.targets, predicted, labels=range(len(data.classes)))
        draw_confusion(axis, matrix, data.classes, f"Test rows by {TRUE} and {FOUND} class")
        return
    axis.scatter(data.test.targets, predicted, s=12, alpha=0.6, color=ACCENT)
    low, high = float(data.test.targets.min()), float(data.test.targets.max())
    axis.plot((low, high), (low, high), color=GUIDE, linewidth=1, zorder=0)
    axis.set(xlabel=f"{data.target}, {TRUE}", ylabel=f"{data.target}, {FOUND}", title="Test rows")
