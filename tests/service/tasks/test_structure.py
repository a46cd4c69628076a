"""Files that are made to take long are refused by their structure; files that encoders write are read."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from service.errors import UndecodableImage
from service.tasks.images import EncodedImage
from service.tasks.structure import check_scans
from tests.pictures import encode, photograph

PHOTOGRAPH = photograph(300, 400)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_many_chunks() -> bytes:
    data = encode(PHOTOGRAPH, "PNG")
    return data[:33] + png_chunk(b"teSt", b"") * 100_000 + data[33:]


def png_of_many_pixel_chunks() -> bytes:
    data = encode(PHOTOGRAPH, "PNG")
    return data[:33] + png_chunk(b"IDAT", b"") * 100_000 + data[33:]


def png_of_compressed_chunks(kind: bytes, count: int) -> bytes:
    data = encode(PHOTOGRAPH, "PNG")
    text = zlib.compress(bytes(1_000_000), 9)
    return data[:33] + png_chunk(kind, b"key\0\0" + text) * count + data[33:]


def jpeg_of_many_segments(segment: bytes, count: int = 100_000) -> bytes:
    data = encode(PHOTOGRAPH, "JPEG")
    return data[:2] + segment * count + data[2:]


def gif_of_many_blocks(blocks: bytes) -> bytes:
    data = encode(PHOTOGRAPH, "GIF")
    end = 13 + (3 << ((data[10] & 7) + 1))
    return data[:end] + blocks + data[end:]


def tiff_of_many_tags() -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag in range(40_000, 44_000):
        tags.tagtype[tag] = 2
        tags[tag] = "x" * 100
    buffer = io.BytesIO()
    Image.fromarray(PHOTOGRAPH).save(buffer, "TIFF", tiffinfo=tags)
    return buffer.getvalue()


def tiff_of_many_values() -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[40_000] = 1
    tags[40_000] = bytes(3 << 20)
    buffer = io.BytesIO()
    Image.fromarray(PHOTOGRAPH).save(buffer, "TIFF", tiffinfo=tags)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        png_of_many_chunks(),
        png_of_many_pixel_chunks(),
        png_of_compressed_chunks(b"zTXt", 9),
        png_of_compressed_chunks(b"iCCP", 9),
        jpeg_of_many_segments(b"\xff\xe1\x00\x0aExif\0\0\0\0"),
        jpeg_of_many_segments(b"\xff\xe1\xff\xf0Exif\0\0" + bytes(0xFFE8), 300),
        gif_of_many_blocks(b"\x21\xfe" + b"\x01x" * 50_000 + b"\x00"),
        gif_of_many_blocks(b"\x21\xfe\x00" * 50_000),
        tiff_of_many_tags(),
        tiff_of_many_values(),
    ],
    ids=["png", "png pixels", "png texts", "png profiles", "exif", "large exif", "gif sub-blocks", "gif blocks",
         "tiff tags", "tiff values"],
)  # fmt: skip
def test_a_file_of_too_many_parts_is_refused(data: bytes):
    with pytest.raises(UndecodableImage, match="too many segments, chunks, blocks or tags"):
        EncodedImage.open(data).decode(3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_what_encoders_write_is_read(kind: str):
    pixels = np.concatenate([PHOTOGRAPH] * 4)
    data = encode(pixels, kind)
    assert EncodedImage.open(data).decode(3).shape == pixels.shape


def test_a_few_compressed_texts_are_read():
    assert EncodedImage.open(png_of_compressed_chunks(b"zTXt", 8)).decode(3).shape == PHOTOGRAPH.shape


def test_a_large_png_may_have_thousands_of_chunks_of_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 2000, 3), dtype=np.uint8)
    packed = zlib.compress(np.pad(pixels.reshape(1000, -1), ((0, 0), (1, 0))).tobytes(), 1)
    chunks = [png_chunk(b"IDAT", packed[start : start + 2048]) for start in range(0, len(packed), 2048)]
    head = encode(pixels[:1, :1], "PNG")[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2000, 1000, 8, 2, 0, 0, 0))
    data = b"".join([head, *chunks, png_chunk(b"IEND", b"")])
    np.testing.assert_array_equal(EncodedImage.open(data).decode(3), pixels)


@pytest.mark.parametrize(("scans", "pixels"), [(1, 10**9), (10, 50_000_000), (100, 1_000)])
def test_as_many_scans_as_encoders_write_are_read(scans: int, pixels: int):
    check_scans(b"\xff\xda" * scans, pixels)


@pytest.mark.parametrize(("scans", "pixels"), [(101, 100), (11, 50_000_000), (100, 48_000_000)])
def test_scans_that_take_seconds_are_refused(scans: int, pixels: int):
    with pytest.raises(UndecodableImage, match="baseline"):
        check_scans(b"\xff\xda" * scans, pixels)
