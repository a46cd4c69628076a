"""Sheets of samples: pictures that show what a data set holds, before anything is trained on it."""

import io
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from training.data.dataset import stratified_sample
from training.data.images import ImageData
from training.report.plots import SMALL, save_figure

# Of a table.
LINES = 24

Tile = tuple[npt.NDArray[np.uint8], str]


def draw_images(data: ImageData) -> Image.Image:
    """Training images of every class, with their labels."""
    labels = data.train.labels
    chosen = np.sort(stratified_sample(labels, 8 * 5, 0))
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    return sheet_of([(data.train.images[index], data.classes[labels[index]]) for index in chosen], 8, 1.1)


def sheet_of(tiles: Sequence[Tile], columns: int, side: float, legend: Sequence[tuple[str, str]] = ()) -> Image.Image:
    """Images in rows, each with a caption below it.

    Args:
        tiles: images, uint8, shape (height, width, 1 or 3), and captions.
        columns: images in a row.
        side: of the square that each fits into, in inches.
        legend: names and their colours.
    """
    rows, columns = -(-len(tiles) // columns), min(columns, len(tiles))
    # Lengths are in sides of a tile; the line of a caption takes 0.2 inches.
    sizes = [0.95 * np.array(image.shape[:2]) / max(image.shape[:2]) for image, _ in tiles]
    step = max(height for height, _ in sizes) + 0.25 / side
    figure, axis = _empty(columns * side, rows * step * side)
    for number, ((image, caption), (height, width)) in enumerate(zip(tiles, sizes, strict=True)):
        x, y = number % columns, number // columns * step
        extent = (x, x + width, y + height, y)
        # Without smoothing, so that the pixels of small images can be seen.
        axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
        axis.text(x, y + height + 0.02, _shortened(caption, int(14 * side)), fontsize=SMALL, va="top", clip_on=True)
    axis.set(xlim=(0, columns), ylim=(rows * step, 0))
    for name, colour in legend:
        axis.plot([], [], color=colour, linewidth=4, label=name)
    if legend:
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(len(legend), 8))
    return _to_image(figure)


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Image.Image:
    """A table as a picture; only the first columns of a wide one, and the first characters of a long cell."""
    cells = [[_shortened(cell, 100) for cell in islice(row, 12)] for row in (head, *rows)]
    figure, axis = _empty(6, 0.22 * len(cells))
    table = axis.table(
        cells[1:], colLabels=cells[0], cellLoc="left", colLoc="left", loc="upper left", edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(SMALL)
    table.auto_set_column_width([*range(len(cells[0]))])
    return _to_image(figure)


def _empty(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    return figure, axis


def _to_image(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    save_figure(figure, buffer, bbox_inches="tight", pad_inches=0.1, dpi=120)
    return Image.open(buffer).convert("RGB")


def _shortened(text: Any, length: int) -> str:
    line = " ".join(str(text)[: 2 * length].split())
    return line if len(line) <= length else f"{line[:length]}…"
