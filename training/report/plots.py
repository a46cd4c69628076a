"""The visual language of all reports: fonts, colours, headings, and the plots that several model cards share.

A class has the same colour in every plot and in rendered boxes (`service.tasks.palette`); grey and black are no class:
what is training is grey, what is validation or test is black. Every figure is `WIDTH` wide, so that its letters can be
read on a telephone: what has several panels puts one below the other.
"""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import matplotlib
import matplotlib.font_manager
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from service.tasks.lettering import EAST_ASIAN, FONTS
from service.tasks.palette import COLOURS
from training.export.calibration import reliability
from training.export.figures import Evaluation, wilson
from training.report.record import REPORT

TRAINING, MEASURED, GUIDE = "#8A8A8A", "#222222", "#C8C8C8"
# For a single quantity that is neither a class nor a split.
ACCENT = "#33658A"
TRUE, PREDICTED = "true", "predicted"
SMALL = 8
# Of a figure, in inches.
WIDTH = 5.6
# Colours of a figure without photographs.
_FEW = 4096

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
        "savefig.dpi": 144,
    }
)


def draw_confusion(
    axis: Axes, matrix: npt.NDArray[np.int64], names: Sequence[str], title: str, *, background: bool = False
) -> None:
    """Draws a confusion matrix, true labels by predicted ones.

    The darker a cell, the larger its share of the items of its row. With `background`, the last label is none of the
    items; there is no number of things that are not there, so its row shows shares of the columns: how many of the
    detections of a class match nothing.
    """
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    if background:
        shares[-1] = matrix[-1] / np.maximum(matrix.sum(0), 1)
        axis.axhline(len(names) - 1.5, color="white", linewidth=4)
        axis.axhline(len(names) - 1.5, color=MEASURED, linewidth=1)
    axis.imshow(np.sqrt(shares), cmap="Greys", vmin=0, vmax=1)
    size = 10 if len(names) <= 6 else 9
    for i, j in np.ndindex(matrix.shape):
        if matrix[i, j] and len(names) <= 14:
            ink = "white" if shares[i, j] > 0.3 else "black"
            axis.text(j, i, str(matrix[i, j]), ha="center", va="center", fontsize=size, color=ink)
    ticks = range(len(names))
    axis.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, names)
    shade = "share of the row" + (";\nin the row background, of the column" if background else "")
    axis.set(xlabel=PREDICTED, ylabel=TRUE, title=f"{title}\n(the darker, the larger the {shade})")


def draw_reliability(axes: Sequence[Axes], evaluation: Evaluation) -> None:
    """Draws accuracy over confidence, before and after calibration.

    An area is the number of items in the bin, a vertical line the 95 % interval of their accuracy.
    """
    for axis, probabilities, title, error in (
        (axes[0], evaluation.uncalibrated, "as trained", evaluation.calibration.ece_before),
        (axes[1], evaluation.probabilities, "calibrated", evaluation.calibration.ece_after),
    ):
        fraction, confidence, accuracy = np.array(reliability(probabilities, evaluation.labels)).T
        counts = np.round(fraction * len(evaluation.labels)).astype(int)
        axis.plot((0, 1), (0, 1), color=GUIDE, linewidth=1, zorder=0)
        low, high = np.array([wilson(round(a * n), int(n)) for a, n in zip(accuracy, counts, strict=True)]).T
        axis.vlines(confidence, low, high, color=TRAINING, linewidth=1.2)
        axis.scatter(confidence, accuracy, s=14 + 150 * fraction, color=MEASURED, zorder=3, clip_on=False)
        axis.set(xlabel="confidence", ylabel="accuracy on test", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.set_title(f"{title}:\ncalibration error {error:.4f}")


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
    """Saves a figure; a character that no font covers becomes a box, without a warning.

    A PNG file of few colours gets a palette, which makes it a third as large.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if not (isinstance(target, Path) and target.suffix == ".png"):
            figure.savefig(target, **options)
            return
        figure.savefig(buffer, format="png", **options)
    image = Image.open(buffer).convert("RGB")
    if image.getcolors(_FEW) is not None:
        image = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(target, optimize=True)
