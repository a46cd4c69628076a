"""Images as they are kept: no metadata, no more pixels than allowed, and the same pixels wherever possible."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from service.capture.pictures import JPEG, PNG, bounded, without_metadata
from service.errors import QuartetError
from service.tasks.images import EncodedImage
from tests.pictures import encode, photograph

SECRET = b"a place at 52.5 N, 13.4 E"
PHOTO = photograph(60, 80)


def kept(data: bytes, side: int = 1280, channels: int = 3) -> tuple[str, bytes]:
    return bounded(data, channels, side, 90, 1_000_000)


def pixels(data: bytes) -> np.ndarray:
    return EncodedImage.open(data).decode(3)


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = SECRET.decode()
    return exif


def test_a_jpeg_keeps_its_pixels_and_loses_everything_else():
    for options in ({}, {"progressive": True}, {"restart_marker_rows": 1}):
        data = encode(PHOTO, "JPEG", exif=with_exif(1), comment=SECRET, icc_profile=SECRET, quality=80, **options)
        media_type, content = kept(data + SECRET)
        assert media_type == JPEG
        assert SECRET not in content
        assert SECRET in data
        assert np.array_equal(pixels(content), pixels(data))
        assert Image.open(io.BytesIO(content)).getexif() == {}


def test_a_png_keeps_its_pixels_and_loses_everything_else():
    data = encode(PHOTO, "PNG", icc_profile=SECRET) + SECRET
    media_type, content = kept(data)
    assert media_type == PNG
    assert SECRET not in content
    assert np.array_equal(pixels(content), PHOTO)
    words = PngInfo()
    words.add_text("place", SECRET.decode())
    assert SECRET not in kept(encode(PHOTO, "PNG", pnginfo=words))[1]


def test_a_rotated_photograph_is_stored_upright():
    for kind in ("JPEG", "PNG"):
        data = encode(PHOTO, kind, exif=with_exif(6))
        media_type, content = kept(data)
        assert media_type == PNG  # small images are encoded without loss
        assert np.array_equal(pixels(content), pixels(data))
        assert pixels(content).shape == (80, 60, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_large_image_is_scaled_down(kind: str):
    media_type, content = kept(encode(photograph(600, 800), kind), side=400)
    assert media_type == JPEG
    assert pixels(content).shape == (300, 400, 3)
    assert kept(encode(photograph(600, 800), kind), side=40)[0] == PNG


def test_a_narrow_image_keeps_a_pixel():
    assert pixels(kept(encode(photograph(2, 500), "PNG"), side=50)[1]).shape == (1, 50, 3)


def test_grey_stays_grey():
    _, content = kept(encode(photograph(300, 600)[..., 0], "BMP"), side=300, channels=1)
    assert Image.open(io.BytesIO(content)).mode == "L"


def test_padding_inside_a_file_is_not_kept():
    data = encode(PHOTO, "JPEG")
    end = data.rindex(b"\xff\xd9")
    padded = data[:end] + bytes(1_000_000) + data[end:]
    assert len(kept(padded)[1]) < 100_000


@pytest.mark.parametrize("cut", [3, 20, 200, 700])
def test_damage_is_no_crash(cut: int):
    for kind in ("JPEG", "PNG"):
        data = encode(PHOTO, kind)[:-cut]
        assert without_metadata(data) is None
        try:
            kept(data)
        except QuartetError:
            continue


def test_other_formats_are_left_alone():
    assert without_metadata(b"") is None
    assert without_metadata(b"\xff\xd8") is None
    assert without_metadata(encode(PHOTO, "BMP")) is None
