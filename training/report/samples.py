"""Sheets of samples: pictures that show what a data set holds, before anything is trained on it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from service.tasks.lettering import text_box, write
from training.data.dataset import stratified_sample
from training.data.images import ImageData

_COLUMNS, _ROWS = 8, 5
_TILE, _GAP, _LETTERS = 128, 8, 13
# Of a table.
LINES = 24
_LINE_HEIGHT, _CHARACTERS = 20, 150
_WIDEST_COLUMN, _WIDEST = 800, 2000
_PAPER, _INK = "white", "black"


def draw_images(data: ImageData) -> Image.Image:
    """Training images of every class, with their labels."""
    labels = data.train.labels
    chosen = np.sort(stratified_sample(labels, _COLUMNS * _ROWS, 0))
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]

    def tile(index: int) -> tuple[Image.Image, str]:
        picture = to_picture(data.train.images[index])
        scale = _TILE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        # Small pictures are enlarged without smoothing, so that their pixels can be seen.
        return picture.resize(size, Image.Resampling.NEAREST if scale > 1 else None), data.classes[labels[index]]

    return sheet_of([tile(int(index)) for index in chosen], _TILE, _COLUMNS)


def to_picture(pixels: Any) -> Image.Image:
    """A picture of pixels, uint8, shape (height, width, 1 or 3)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")


def sheet_of(tiles: Sequence[tuple[Image.Image, str]], side: int, columns: int) -> Image.Image:
    """Pictures in rows, each with a line below it.

    Args:
        tiles: pictures and lines.
        side: that no picture exceeds, in pixels.
        columns: pictures in a row.
    """
    rows = -(-len(tiles) // columns)
    step_x, step_y = side + _GAP, max(picture.height for picture, _ in tiles) + _GAP + _LINE_HEIGHT
    sheet = Image.new("RGB", (min(columns, len(tiles)) * step_x + _GAP, rows * step_y + _GAP), _PAPER)
    canvas = ImageDraw.Draw(sheet)
    for number, (picture, caption) in enumerate(tiles):
        x, y = _GAP + number % columns * step_x, _GAP + number // columns * step_y
        sheet.paste(picture, (x, y))
        write(canvas, x, y + picture.height + _LETTERS, _shortened(canvas, caption, side), _LETTERS, _INK)
    return sheet


def with_legend(sheet: Image.Image, entries: Iterable[tuple[str, str]]) -> Image.Image:
    """A sheet below a line of names in their colours; names that do not fit are left out."""
    longer = Image.new("RGB", (sheet.width, sheet.height + _LINE_HEIGHT + _GAP), _PAPER)
    longer.paste(sheet, (0, _LINE_HEIGHT + _GAP))
    canvas = ImageDraw.Draw(longer)
    x = float(_GAP)
    for name, colour in entries:
        width = text_box(canvas, name, _LETTERS)[2]
        if x + 2 * _LETTERS + width > sheet.width:
            break
        canvas.rectangle((x, _GAP, x + _LETTERS, _GAP + _LETTERS), fill=colour)
        write(canvas, x + 1.5 * _LETTERS, _GAP + _LETTERS, name, _LETTERS, _INK)
        x += 3 * _LETTERS + width
    return longer


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Image.Image:
    """A table as a picture; of a wide one the first columns.

    Args:
        head: the names of the columns.
        rows: their cells.
    """
    lines = [[" ".join(cell[:_CHARACTERS].split()) for cell in line] for line in (head, *rows)]
    canvas = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    widths = [
        min(_WIDEST_COLUMN, max(int(text_box(canvas, cell, _LETTERS)[2]) for cell in column)) + 2 * _GAP
        for column in zip(*lines, strict=True)
    ]
    while len(widths) > 2 and sum(widths) > _WIDEST:
        widths.pop()
    sheet = Image.new("RGB", (sum(widths) + _GAP, (len(lines) + 1) * _LINE_HEIGHT), _PAPER)
    canvas = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines, 1):
        x = _GAP
        for cell, width in zip(line, widths, strict=False):
            write(canvas, x, number * _LINE_HEIGHT, _shortened(canvas, cell, width - _GAP), _LETTERS, _INK)
            x += width
    canvas.line((0, _LINE_HEIGHT + 5, sheet.width, _LINE_HEIGHT + 5), fill=_INK)
    return sheet


def _shortened(canvas: ImageDraw.ImageDraw, text: str, width: float) -> str:
    """The text, or as much of it as fits into a width in pixels."""
    if text_box(canvas, text, _LETTERS)[2] <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = text_box(canvas, text[:middle] + "…", _LETTERS)[2] <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low] + "…"
