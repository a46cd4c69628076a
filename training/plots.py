"""The plots that several model cards share."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import matplotlib.font_manager
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.calibrate import reliability
from training.evaluation import Evaluation

# Fonts for scripts that the default one lacks, if they are installed.
_FALLBACKS = ("Noto Sans CJK KR", "Noto Sans CJK JP", "NanumGothic", "Malgun Gothic", "AppleGothic", "Noto Sans")
_INSTALLED = set(matplotlib.font_manager.get_font_names())
matplotlib.rcParams.update(
    {
        "font.size": 9,
        "font.family": ["DejaVu Sans", *(name for name in _FALLBACKS if name in _INSTALLED)],
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def draw_curves(axis: Axes, history: Sequence[dict[str, float]], lines: dict[str, str], title: str) -> None:
    """Draws figures of a training over its epochs.

    Args:
        axis: to draw on.
        history: a row for each epoch.
        lines: the label of each figure.
        title: of the vertical axis.
    """
    epochs = range(1, len(history) + 1)
    for name, label in lines.items():
        axis.plot(epochs, [row[name] for row in history], label=label)
    axis.set(xlabel="epoch", ylabel=title)
    axis.legend(frameon=False)


def draw_confusion(axis: Axes, matrix: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """Draws a confusion matrix, true labels by predictions, shaded by the share of each row."""
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        if matrix[i, j] and len(names) <= 12:
            axis.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=7,
                      color="white" if shares[i, j] > 0.4 else "black")  # fmt: skip
    ticks = range(len(names))
    axis.set_xticks(ticks, names, rotation=45, ha="right")
    axis.set_yticks(ticks, names)
    axis.set(xlabel="predicted", ylabel="true")


def draw_reliability(axes: Sequence[Axes], evaluation: Evaluation) -> None:
    """Draws accuracy over confidence, before and after temperature scaling."""
    for axis, probabilities, title, error in (
        (axes[0], evaluation.uncalibrated, "as trained", evaluation.calibration.ece_before),
        (axes[1], evaluation.probabilities, "after temperature scaling", evaluation.calibration.ece_after),
    ):
        bins = reliability(probabilities, evaluation.labels)
        axis.plot((0, 1), (0, 1), color="0.7", linewidth=1)
        axis.scatter([b[1] for b in bins], [b[2] for b in bins], s=[12 + 200 * b[0] for b in bins], alpha=0.7)
        axis.set(xlabel="confidence", ylabel="accuracy", title=f"{title}: error {error:.4f}", xlim=(0, 1), ylim=(0, 1))


def save_plot(
    path: Path, width: float, height: float, columns: int, draw: Callable[[Sequence[Axes]], None], rows: int = 1
) -> None:
    """Saves a figure of `rows` x `columns` plots that `draw` fills; `width` and `height` in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    with warnings.catch_warnings():
        # A word in a script that no font covers becomes boxes; the rest of the figure is still worth having.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        draw(list(figure.subplots(rows, columns, squeeze=False).ravel()))
        figure.savefig(path, dpi=110)
