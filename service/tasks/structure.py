"""Refuses image files that take long to decode for their size, by their structure, before anything is decoded.

Pillow parses the parts of a file in Python, holding the GIL, and some in time that grows with the square of their
number. Encoders write a few dozen parts; the limits here are far above that and keep parsing below 10 ms or so.
"""

import struct

from service.errors import UndecodableImage
from service.tasks.slices import count_bytes

_MOST_JPEG_SEGMENTS = 500
# Small chunks, and one more for each so many bytes of the file: encoders write 8 kB or more of pixels into a chunk.
_MOST_SMALL_PNG_CHUNKS, _PNG_CHUNK_BYTES = 2_000, 2_048
# Each may decompress to 1 MB.
_MOST_PNG_COMPRESSED = 8
_PNG_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
# As for PNG: encoders fill sub-blocks, which hold 255 bytes.
_MOST_SMALL_GIF_BLOCKS, _GIF_BLOCK_BYTES = 2_000, 128
_MOST_GIF_EXTENSIONS = 1_000
_MOST_TIFF_TAGS = 256
_MOST_TIFF_VALUES = 200_000
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
    position, compressed = 8, 0
    limit = _MOST_SMALL_PNG_CHUNKS + len(data) // _PNG_CHUNK_BYTES
    for _ in range(limit):
        if position + 12 > len(data):
            return
        compressed += data[position + 4 : position + 8] in _PNG_COMPRESSED
        if compressed > _MOST_PNG_COMPRESSED:
            raise _too_many("PNG", "compressed texts and profiles", _MOST_PNG_COMPRESSED)
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise _too_many("PNG", "chunks", limit)


def _check_gif(data: bytes) -> None:
    """Extensions before the first image, and the sub-blocks in them (GIF89a specification)."""
    if len(data) < 13:
        return
    position = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    inside, extensions = False, 0
    limit = _MOST_SMALL_GIF_BLOCKS + len(data) // _GIF_BLOCK_BYTES
    for _ in range(limit):
        if position + 2 > len(data):
            return
        if inside:
            inside = data[position] > 0
            position += 1 + data[position]
        elif data[position] == 0x21:  # an extension: a label, then sub-blocks until an empty one
            inside = True
            extensions += 1
            if extensions > _MOST_GIF_EXTENSIONS:
                raise _too_many("GIF", "extensions", _MOST_GIF_EXTENSIONS)
            position += 2
        else:
            return
    raise _too_many("GIF", "blocks", limit)


def _check_tiff(data: bytes, order: str) -> None:
    """Tags of the first image, and how many values they have (TIFF 6.0)."""
    if len(data) < 8:
        return
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
