"""Text in pictures, in any script that the bundled fonts cover: see `fonts/README.md`."""

import itertools
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

FONTS = Path(__file__).with_name("fonts")
# The first draws Hangul and kana, the second everything else (accents, Greek, Cyrillic, Arabic, …).
EAST_ASIAN, OTHERS = "NanumSquareR.ttf", "DejaVuSans.ttf"

Box = tuple[float, float, float, float]


def text_box(canvas: ImageDraw.ImageDraw, text: str, size: int) -> Box:
    """The extent (left, top, right, bottom) of a line of text whose baseline begins at (0, 0).

    The size is in pixels per em.
    """
    boxes = [canvas.textbbox((x, 0), part, font=font, anchor="ls") for x, part, font in _runs(text, size)]
    lefts, tops, rights, bottoms = zip(*boxes or [(0, 0, 0, 0)], strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def write(canvas: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, ink: str) -> None:
    """Writes a line of text whose baseline begins at (x, y); see `text_box`."""
    for offset, part, font in _runs(text, size):
        canvas.text((x + offset, y), part, fill=ink, font=font, anchor="ls")


def _runs(text: str, size: int) -> Iterator[tuple[float, str, ImageFont.FreeTypeFont]]:
    """The parts of a text that are drawn with one font each, after their horizontal offsets."""
    x = 0.0
    for wide, characters in itertools.groupby(text, key=lambda one: unicodedata.east_asian_width(one) in "WF"):
        font, part = _font(EAST_ASIAN if wide else OTHERS, size), "".join(characters)
        yield x, part, font
        x += font.getlength(part)


@lru_cache(maxsize=32)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONTS / name), size)
