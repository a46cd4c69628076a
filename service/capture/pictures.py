"""Images as they are kept: without metadata, no larger than the policy says, and with the same pixels if possible."""

import io
import re
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image

from service.tasks.images import EncodedImage, UInt8Array

JPEG, PNG = "image/jpeg", "image/png"
# Smaller images are stored lossless where they are encoded anew.
_SMALL_SIDE = 256
# More bytes than pixels need are no image data.
_MOST_BYTES_PER_PIXEL, _HEADER_BYTES = 4, 1 << 16
# Markers of a JPEG (ITU-T T.81, B.1.1.3).
_START, _END, _SCAN = b"\xff\xd8", 0xD9, 0xDA
_JFIF, _ADOBE, _COMMENT = 0xE0, 0xEE, 0xFE
_APPLICATION = range(0xE0, 0xF0)
# A JFIF segment without a thumbnail.
_JFIF_BYTES = 16
# The end of a scan: a marker that is neither a stuffed byte nor a restart.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Chunks that may hold EXIF, and with it an orientation.
_PNG_EXIF = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_PNG_CHUNK_BYTES = 12


def bounded(data: bytes, channels: int, side: int, quality: int, max_pixels: int) -> tuple[str, bytes]:
    """An image as it is kept.

    An upright JPEG or PNG of at most `side` pixels keeps its pixels as they were encoded, and loses its metadata (such
    as the place where a photograph was taken). Any other image is decoded, scaled down if it is larger, and encoded
    anew: as PNG up to 256 pixels, as JPEG above.

    Args:
        data: of an image file.
        channels: 3 for RGB, 1 for grey, if it is encoded anew.
        side: the most pixels of the longer side.
        quality: of a JPEG.
        max_pixels: that the file may declare.

    Returns:
        The media type, and the content of the file.

    Raises:
        QuartetError: the image cannot be decoded.
    """
    image = EncodedImage.open(data, max_pixels)
    pixels = image.width * image.height
    if max(image.width, image.height) <= side and image.orientation == 1:
        plain = without_metadata(data)
        if plain is not None and len(plain[1]) <= _MOST_BYTES_PER_PIXEL * pixels + _HEADER_BYTES:
            return plain
    height, width = (max(1, round(each * _scale(image.upright_size, side))) for each in image.upright_size)
    return _encode(_shrink(image.decode(channels, height, width), side), quality)


def without_metadata(data: bytes) -> tuple[str, bytes] | None:
    """The media type of a JPEG or PNG, and the file without metadata or anything that follows its end.

    Returns:
        None for another format, for a damaged file, and for a PNG whose metadata may state an orientation.
    """
    media_type, parts = (JPEG, _jpeg_parts) if data.startswith(_START) else (PNG, _png_parts)
    try:
        return media_type, b"".join(parts(data))
    except (ValueError, IndexError):
        return None


def _jpeg_parts(data: bytes) -> Iterator[bytes]:
    yield _START
    at = len(_START)
    while True:
        while data[at] == data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise ValueError("no marker")
        marker = data[at + 1]
        if marker == _END:
            yield data[at : at + 2]
            return
        size = int.from_bytes(data[at + 2 : at + 4])
        end = at + 2 + size
        if size < 2 or end > len(data):
            raise ValueError("truncated")
        kept = marker == _ADOBE or (marker == _JFIF and size == _JFIF_BYTES)
        if kept or not (marker in _APPLICATION or marker == _COMMENT):
            yield data[at:end]
        at = end
        if marker == _SCAN:
            after = _AFTER_SCAN.search(data, at)
            if after is None:
                raise ValueError("truncated")
            yield data[at : after.start()]
            at = after.start()


def _png_parts(data: bytes) -> Iterator[bytes]:
    if not data.startswith(_PNG_START):
        raise ValueError("another format")
    yield _PNG_START
    at, kind = len(_PNG_START), b""
    while kind != b"IEND":
        kind = data[at + 4 : at + 8]
        end = at + _PNG_CHUNK_BYTES + int.from_bytes(data[at : at + 4])
        if len(kind) < 4 or end > len(data) or kind in _PNG_EXIF:
            raise ValueError("damaged, or with EXIF")
        if kind in _PNG_PIXELS:
            yield data[at:end]
        at = end


def _scale(size: tuple[int, int], side: int) -> float:
    return min(1.0, side / max(size))


def _shrink(pixels: UInt8Array, side: int) -> UInt8Array:
    scale = _scale(pixels.shape[:2], side)
    if scale == 1:
        return pixels
    height, width, channels = pixels.shape
    picture = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
    small = picture.resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC, reducing_gap=2.0
    )
    return np.asarray(small).reshape(small.height, small.width, channels)


def _encode(pixels: UInt8Array, quality: int) -> tuple[str, bytes]:
    if max(pixels.shape[:2]) <= _SMALL_SIDE:
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
        return PNG, buffer.getvalue()
    colours, sampling = ("RGB", "420") if pixels.shape[2] == 3 else ("GRAY", "Gray")
    return JPEG, simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colours, sampling)
