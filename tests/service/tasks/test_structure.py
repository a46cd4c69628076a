"""Files that are made to take long are refused by their structure, at once; those that encoders write are not."""

import contextlib
import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from service.errors import UndecodableImage
from service.tasks.images import EncodedImage
from service.tasks.structure import check_scans, check_structure
from tests.pictures import encode, photograph

PHOTOGRAPH = photograph(300, 400)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_many_chunks() -> bytes:
    data = encode(PHOTOGRAPH, "PNG")
    return data[:33] + png_chunk(b"teSt", b"") * 100_000 + data[33:]


def png_of_compressed_texts(count: int) -> bytes:
    data = encode(PHOTOGRAPH, "PNG")
    text = zlib.compress(bytes(1_000_000), 9)
    return data[:33] + b"".join(png_chunk(b"zTXt", b"key\0\0" + text) for _ in range(count)) + data[33:]


def jpeg_of_many_segments(segment: bytes) -> bytes:
    data = encode(PHOTOGRAPH, "JPEG")
    return data[:2] + segment * 100_000 + data[2:]


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
    data = bytearray(encode(PHOTOGRAPH, "TIFF"))
    (position,) = struct.unpack_from("<I", data, 4)
    struct.pack_into("<I", data, position + 2 + 4, 50_000_000)  # the first tag's count
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (png_of_many_chunks(), "PNG has over 2[0-9]{3} chunks"),
        (png_of_compressed_texts(9), "PNG has over 8 compressed texts"),
        (jpeg_of_many_segments(b"\xff\xe1\x00\x0aExif\0\0\0\0"), "JPEG has over 500 segments"),
        (jpeg_of_many_segments(b"\xff\xfe\x00\x02"), "JPEG has over 500 segments"),
        (gif_of_many_blocks(b"\x21\xfe" + b"\x01x" * 50_000 + b"\x00"), "GIF has over [0-9]+ blocks"),
        (gif_of_many_blocks(b"\x21\xfe\x00" * 50_000), "GIF has over 1000 extensions"),
        (tiff_of_many_tags(), "TIFF has over 256 tags"),
        (tiff_of_many_values(), "TIFF has over 200000 values"),
        (b"II+\x00" + bytes(40_000), "BigTIFF"),
    ],
    ids=["png", "png texts", "exif", "comments", "gif sub-blocks", "gif blocks", "tiff tags", "tiff values", "bigtiff"],
)
def test_a_file_of_too_many_parts_is_refused_at_once(data: bytes, says: str):
    began = time.process_time()
    with pytest.raises(UndecodableImage, match=says):
        EncodedImage.open(data)
    assert time.process_time() - began < 1.0  # decoding some of these takes a minute


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_what_encoders_write_is_read(kind: str):
    pixels = np.concatenate([PHOTOGRAPH] * 4)
    data = encode(pixels, kind)
    check_structure(data)
    assert EncodedImage.open(data).decode(3).shape == pixels.shape


def test_a_few_compressed_texts_are_read():
    assert EncodedImage.open(png_of_compressed_texts(8)).decode(3).shape == PHOTOGRAPH.shape


@pytest.mark.parametrize("length", [0, 1, 5, 9, 12, 14, 30])
@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00", b"MM\x00*"])
def test_a_file_that_breaks_off_is_left_to_the_decoder(start: bytes, length: int):
    for filling in (b"\x00", b"\xff", b"\x21"):
        data = (start + filling * 40_000)[: 40_000 + length]
        with contextlib.suppress(UndecodableImage):
            check_structure(data)


@pytest.mark.parametrize(("scans", "pixels"), [(1, 10**9), (10, 50_000_000), (100, 1_000)])
def test_as_many_scans_as_encoders_write_are_read(scans: int, pixels: int):
    check_scans(b"\xff\xda" * scans, pixels)


@pytest.mark.parametrize(("scans", "pixels"), [(101, 100), (11, 50_000_000), (100, 48_000_000)])
def test_scans_that_take_seconds_are_refused(scans: int, pixels: int):
    with pytest.raises(UndecodableImage, match="baseline"):
        check_scans(b"\xff\xda" * scans, pixels)
