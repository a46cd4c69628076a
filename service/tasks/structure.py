"""Image files that are small and yet take seconds to decode are told by their structure, before anything is decoded.

Decoders walk a file's parts one by one, some of them in Python, and some in time that grows with the square of their
number. Encoders write a few dozen parts; the limits here are far above that.
"""

import struct

from service.errors import UndecodableImage
from service.tasks.slices import count_bytes

# Files so small cost little, however they are made.
_SMALL_BYTES = 1 << 15
_MOST_PARTS = 20_000
_MOST_JPEG_SEGMENTS = 500
_MOST_TIFF_TAGS = 256
_MOST_TIFF_VALUES = 1_000_000
# Encoders write ten scans or so; each is a pass over all pixels, and one that says nothing takes a dozen bytes.
_MOST_SCANS = 100
_MOST_SCANNED_PIXELS = 500_000_000
_TIFF_BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}


def check_scans(data: bytes, pixels: int) -> None:
    """Refuses a JPEG whose passes over all its pixels are too many.

    Raises:
        UndecodableImage: says so.
    """
    scans = count_bytes(data, b"\xff\xda", _MOST_SCANS)
    if scans > 1 and (scans > _MOST_SCANS or scans * pixels > _MOST_SCANNED_PIXELS):
        raise UndecodableImage(
            f"The JPEG has {scans} scans of {pixels} pixels, which take too long to decode: save it as a baseline JPEG."
        )


def check_structure(data: bytes) -> None:
    """Refuses a file of too many parts.

    Raises:
        UndecodableImage: says which.
    """
    if len(data) <= _SMALL_BYTES:
        return
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(data)
    elif data[:4] in _TIFF_BYTE_ORDERS:
        _check_tiff(data, _TIFF_BYTE_ORDERS[data[:4]])
    elif data[:4] in (b"II+\x00", b"MM\x00+"):
        raise UndecodableImage("The image is a BigTIFF, which is not read here: save it as TIFF or PNG.")


def _check_jpeg(data: bytes) -> None:
    """Segments before the first scan (ITU-T T.81, annex B)."""
    position = 2
    for _ in range(_MOST_JPEG_SEGMENTS):
        if data[position : position + 2] == b"\xff\xda" or position + 4 > len(data):
            return
        if data[position] != 0xFF:
            position = data.find(b"\xff", position)
            if position < 0:
                return
        elif data[position + 1] == 0xFF:
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise _too_many("JPEG", "segments", _MOST_JPEG_SEGMENTS)


def _check_png(data: bytes) -> None:
    """Chunks (ISO/IEC 15948)."""
    position = 8
    for _ in range(_MOST_PARTS):
        if position + 12 > len(data):
            return
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise _too_many("PNG", "chunks", _MOST_PARTS)


def _check_gif(data: bytes) -> None:
    """Blocks before the first image, and the sub-blocks in them (GIF89a specification)."""
    position = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    inside = False
    for _ in range(_MOST_PARTS):
        if position + 2 > len(data):
            return
        if inside:
            inside = data[position] > 0
            position += 1 + data[position]
        elif data[position] == 0x21:  # an extension: a label, then sub-blocks until an empty one
            inside = True
            position += 2
        else:
            return
    raise _too_many("GIF", "blocks", _MOST_PARTS)


def _check_tiff(data: bytes, order: str) -> None:
    """Tags of the first image, and how many values they have (TIFF 6.0)."""
    (position,) = struct.unpack_from(f"{order}I", data, 4)
    if position + 2 > len(data):
        return
    (tags,) = struct.unpack_from(f"{order}H", data, position)
    if tags > _MOST_TIFF_TAGS:
        raise _too_many("TIFF", "tags", _MOST_TIFF_TAGS)
    entries = data[position + 2 : position + 2 + 12 * tags]
    values = sum(count for _, kind, count, _ in struct.iter_unpack(f"{order}HHII", entries[: len(entries) // 12 * 12])
                 if kind != 7)  # fmt: skip
    if values > _MOST_TIFF_VALUES:
        raise _too_many("TIFF", "values", _MOST_TIFF_VALUES)


def _too_many(name: str, parts: str, limit: int) -> UndecodableImage:
    return UndecodableImage(f"The {name} has over {limit} {parts}, which takes too long to read: save it anew.")
