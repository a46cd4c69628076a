"""The visual language of all reports: fonts, colours, headings, and the plots that several model cards share.

A class has the same colour in every plot and in rendered boxes (`service.tasks.palette`); grey and black are no class:
what is training is grey, what is validation or test is black.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import matplotlib
import matplotlib.font_manager
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from service.tasks.lettering import EAST_ASIAN, FONTS
from service.tasks.palette import COLOURS
from training.export.calibration import reliability
from training.export.figures import Evaluation
from training.report.record import REPORT, update_record

if TYPE_CHECKING:
    from training.engine.checkpoint import FitState

TRAINING, MEASURED, GUIDE = "#8A8A8A", "#222222", "#C8C8C8"
# For a single quantity that is neither a class nor a split.
ACCENT = "#33658A"
TRUE, PREDICTED = "true", "predicted"
SMALL = 8

matplotlib.font_manager.fontManager.addfont(FONTS / EAST_ASIAN)
matplotlib.rcParams.update(
    {
        "font.size": 10,
        "font.family": ["DejaVu Sans", matplotlib.font_manager.FontProperties(fname=FONTS / EAST_ASIAN).get_name()],
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=COLOURS),
        "legend.frameon": False,
        "legend.fontsize": 9,
        "savefig.dpi": 120,
    }
)


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure of a training over its epochs.

    Attributes:
        figure: its name in the history, without `train_` or `validation_`.
        label: of the vertical axis.
        training: another name in the training's part of the history, where the two differ.
        logarithmic: whether the vertical axis is, where the values span a power of ten.
    """

    figure: str
    label: str
    training: str = ""
    logarithmic: bool = False


def write_curves(folder: Path, state: "FitState", *curves: Curve) -> None:
    """Draws the learning curves of the version in `folder`, and records their values."""

    def draw(axes: Sequence[Axes]) -> None:
        for axis, curve in zip(axes, curves, strict=True):
            draw_curve(axis, state, curve)

    save_plot(folder, "learning-curves.png", max(6, 4.5 * len(curves)), 3.4, draw, len(curves))
    update_record(folder, history=state.history, initial=state.initial)


def draw_curve(axis: Axes, state: "FitState", curve: Curve) -> None:
    """Draws a figure on training and validation items over the epochs.

    A training figure is a mean over an epoch in which the network changed, so it stands in the middle of its epoch;
    validation is measured after each epoch, and before the first one.
    """
    history, initial = state.history, state.initial or {}
    ends = np.arange(1, len(history) + 1)
    marker = "." if len(history) < 6 else ""  # a line through one point cannot be seen
    name = f"train_{curve.training or curve.figure}"
    if all(name in row for row in history):
        values = [row[name] for row in history]
        axis.plot(ends - 0.5, values, color=TRAINING, marker=marker, label="training (mean of the epoch)")
    name = f"validation_{curve.figure}"
    if all(name in row for row in history):
        values = [*([initial[curve.figure]] if curve.figure in initial else []), *(row[name] for row in history)]
        epochs = np.arange(len(history) + 1)[-len(values) :]
        axis.plot(epochs, values, color=MEASURED, marker=marker, label="validation (after the epoch)")
    axis.set(xlabel="epoch", ylabel=curve.label, xlim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.lines])
    # On a logarithmic axis of less than that there is hardly a number to read.
    if curve.logarithmic and drawn.max() > 10 * drawn.min() > 0:
        axis.set_yscale("log")
    axis.legend()


def draw_confusion(axis: Axes, matrix: npt.NDArray[np.int64], names: Sequence[str], title: str) -> None:
    """Draws a confusion matrix, true labels by predicted ones, shaded by the fraction of each row."""
    fractions = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(np.sqrt(fractions), cmap="Greys", vmin=0, vmax=1)
    for i, j in np.ndindex(matrix.shape):
        if matrix[i, j] and len(names) <= 14:
            axis.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=SMALL,
                      color="white" if fractions[i, j] > 0.3 else "black")  # fmt: skip
    ticks = range(len(names))
    axis.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, names)
    axis.set(xlabel=PREDICTED, ylabel=TRUE, title=title)


def draw_reliability(axes: Sequence[Axes], evaluation: Evaluation) -> None:
    """Draws accuracy over confidence, before and after calibration; an area is the fraction of the items."""
    for axis, probabilities, title, error in (
        (axes[0], evaluation.uncalibrated, "as trained", evaluation.calibration.ece_before),
        (axes[1], evaluation.probabilities, "calibrated", evaluation.calibration.ece_after),
    ):
        fraction, confidence, accuracy = np.array(reliability(probabilities, evaluation.labels)).T
        axis.plot((0, 1), (0, 1), color=GUIDE, linewidth=1, zorder=0)
        axis.scatter(confidence, accuracy, s=12 + 200 * fraction, color=MEASURED, alpha=0.7)
        axis.set(xlabel="confidence (mean of the bin)", ylabel="accuracy on test", xlim=(0, 1), ylim=(0, 1.03))
        axis.set_title(f"{title}: calibration error {error:.4f}")


def show_image(axis: Axes, image: npt.NDArray[Any], title: str = "") -> None:
    """Shows an image (height, width, channels) without axes."""
    axis.axis("off")
    axis.imshow(image.squeeze(), cmap="gray" if image.shape[-1] == 1 else None, vmin=0, vmax=255)
    axis.set_title(title, fontsize=SMALL)


def save_plot(
    folder: Path,
    name: str,
    width: float,
    height: float,
    draw: Callable[[Sequence[Axes]], None],
    columns: int = 1,
    rows: int = 1,
) -> None:
    """Saves a figure of the report of the version in `folder`; `draw` fills its axes; lengths are in inches."""
    (folder / REPORT).mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    draw(axes)
    for axis in axes:
        axis.set_visible(axis.has_data())
    save_figure(figure, folder / REPORT / name)


def save_figure(figure: Figure, target: Path | IO[bytes], **options: Any) -> None:
    """Saves a figure; a character that no font covers becomes a box, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(target, **options)
