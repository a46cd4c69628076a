"""Generates image files: intact, and with a header that declares more than they hold."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photograph(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth shapes and fine detail, with different corners; uint8, shape (height, width, channels)."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = [
        np.sin(6 * x + 3 * y) * 0.4 + x * 0.5,
        np.cos(9 * y * y) * 0.3 + y * 0.6,
        np.sin(14 * x * y + 1) * 0.4 + (x - y) * 0.2,
    ]
    image = np.stack(planes[:channels], axis=-1)
    image = (image - image.min()) / np.ptp(image)
    return (image * 255).astype(np.uint8)


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares `width` x `height` RGB pixels but holds almost none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(16)))
        + chunk(b"IEND", b"")
    )
