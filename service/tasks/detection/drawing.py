"""Pictures with what was found in them."""

import io
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.tasks.detection.boxes import Box
from service.tasks.images import EncodedImage

# A photograph of twelve megapixels shall cost at most twice what one of 640 x 480 costs, and most of that is the PNG.
_LONG_SIDE = 640
# Distinct in hue and in lightness (Okabe and Ito 2008, for all kinds of colour vision).
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
_DARK_TEXT = {"#E69F00", "#56B4E9", "#F0E442"}


def draw_detections(image: EncodedImage, boxes: Sequence[Box]) -> bytes:
    """The image with its boxes and labels, as PNG; at most 640 pixels on its long side.

    Args:
        image: as it was sent.
        boxes: in its own pixels, upright.

    Raises:
        UndecodableImage: the data is truncated or damaged.
    """
    height, width = image.upright_size
    shrink = min(1.0, _LONG_SIDE / max(height, width))
    pixels = image.decode(3, round(height * shrink), round(width * shrink))
    if image.pillow is not None:
        height, width = pixels.shape[:2]
        shrink = min(1.0, _LONG_SIDE / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    line = max(2, round(max(size) / 320))
    font = _font(max(11, round(max(size) / 50)))
    canvas = ImageDraw.Draw(picture)
    # The best last, so that its label lies on top.
    for box in reversed(boxes):
        _draw_box(canvas, box, size, shrink, line, font)
    buffer = io.BytesIO()
    # What PNG's filters leave of a photograph repeats at most the byte before: a quarter smaller than with other
    # matches, and no slower.
    picture.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def _draw_box(
    canvas: ImageDraw.ImageDraw,
    box: Box,
    size: tuple[int, int],
    shrink: float,
    line: int,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    colour = _COLOURS[box["index"] % len(_COLOURS)]
    left, top = box["x_min"] * shrink, box["y_min"] * shrink
    canvas.rectangle((left, top, box["x_max"] * shrink, box["y_max"] * shrink), outline=colour, width=line)
    text = f"{box['label']} {box['score']:.2f}"
    x_min, y_min, x_max, y_max = canvas.textbbox((0, 0), text, font=font)
    width, height = x_max - x_min + 2 * line, y_max - y_min + 2 * line
    # Above the box, or inside where there is no room; never beyond the picture's edge.
    x = min(max(left, 0), max(size[0] - width, 0))
    y = top - height if top >= height else top
    canvas.rectangle((x, y, x + width, y + height), fill=colour)
    ink = "black" if colour in _DARK_TEXT else "white"
    canvas.text((x + line - x_min, y + line - y_min), text, fill=ink, font=font)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
