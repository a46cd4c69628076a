"""PNG files of small images, and a PNG sheet of many tiles that is encoded row by row (PNG, ISO/IEC 15948).

Pillow takes several times as long for small images, and needs the whole sheet in memory.
"""

import base64
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

from service.tasks.images import UInt8Array

_GAP = 1
_PAPER = 255


def to_png(pixels: UInt8Array) -> bytes:
    """A PNG file of uint8 pixels, shape (height, width, channels); 1 channel is grey, 3 are RGB."""
    return _begin(*pixels.shape) + _chunk(b"IDAT", zlib.compress(_lines(pixels))) + _chunk(b"IEND", b"")


def to_base64(pixels: UInt8Array) -> str:
    """A PNG file in base64."""
    return base64.b64encode(to_png(pixels)).decode()


def side_by_side(images: Sequence[UInt8Array], scale: int) -> UInt8Array:
    """Images of one size in a row with a gap between them, each pixel enlarged to `scale` x `scale`."""
    height, _, channels = images[0].shape
    gap = np.full((height, _GAP, channels), _PAPER, dtype=np.uint8)
    parts = [part for image in images for part in (image, gap)][:-1]
    row = np.concatenate(parts, axis=1)
    return row.repeat(scale, 0).repeat(scale, 1)


class Sheet:
    """A PNG of `count` tiles in about as many rows as columns, of which only one row is in memory."""

    def __init__(self, count: int, height: int, width: int, channels: int) -> None:
        self._columns = math.ceil(math.sqrt(count))
        self._tile = (height, width, channels)
        rows = math.ceil(count / self._columns)
        self.width = self._columns * (width + _GAP) + _GAP
        self.height = rows * (height + _GAP) + _GAP
        self._waiting: list[UInt8Array] = []
        self._packer = zlib.compressobj(6)
        self._head = _begin(self.height, self.width, channels)

    def add(self, tiles: Sequence[UInt8Array]) -> bytes:
        """The next part of the file: the rows that are complete."""
        parts, self._head = [self._head], b""
        self._waiting += tiles
        while len(self._waiting) >= self._columns:
            row, self._waiting = self._waiting[: self._columns], self._waiting[self._columns :]
            parts.append(self._write(row))
        return b"".join(parts)

    def end(self) -> bytes:
        """The last part of the file."""
        last = self._write(self._waiting) if self._waiting else b""
        bottom = self._packer.compress(_lines(np.full((_GAP, self.width, self._tile[2]), _PAPER, np.uint8)))
        return last + _chunk(b"IDAT", bottom + self._packer.flush()) + _chunk(b"IEND", b"")

    def _write(self, row: Sequence[UInt8Array]) -> bytes:
        height, width, channels = self._tile
        pixels = np.full((height + _GAP, self.width, channels), _PAPER, dtype=np.uint8)
        for column, tile in enumerate(row):
            left = _GAP + column * (width + _GAP)
            pixels[_GAP:, left : left + width] = tile
        return _chunk(b"IDAT", self._packer.compress(_lines(pixels)))


def _begin(height: int, width: int, channels: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)


def _lines(pixels: UInt8Array) -> bytes:
    """Scanlines, each after the filter type 0 (none)."""
    height, width, channels = pixels.shape
    lines = np.zeros((height, 1 + width * channels), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    return lines.tobytes()


def _chunk(kind: bytes, data: bytes) -> bytes:
    # zlib may hold back all of a row.
    if kind == b"IDAT" and not data:
        return b""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
