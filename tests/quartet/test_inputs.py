"""What programs hold, as the service reads it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import PIL.Image
import pytest

from quartet import InvalidItemError, inputs

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3), "u1")


def pixels(prepared: inputs.Prepared) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(prepared.value)))


def test_a_path_becomes_the_bytes_of_the_file(tmp_path: Path):
    path = tmp_path / "ä.jpg"
    path.write_bytes(b"abc")
    for item in (path, str(path)):
        assert inputs.image(item) == inputs.Prepared(b"abc", 3, "ä.jpg", path)
    with path.open("rb") as file:
        assert inputs.image(file).value == b"abc"
    assert inputs.image(bytearray(b"abc")).value == b"abc"


@pytest.mark.parametrize(
    "array", [PIXELS, PIXELS[..., 0], PIXELS[..., :1], np.dstack([PIXELS, PIXELS[..., 0]]), PIXELS[::-1, ::2]]
)
def test_an_array_arrives_pixel_by_pixel(array: np.ndarray):
    np.testing.assert_array_equal(pixels(inputs.image(array)), array.squeeze())


def test_a_pillow_image_is_seen_as_its_file_would_be():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    PIL.Image.fromarray(PIXELS).save(file, "JPEG", exif=exif, quality=95)
    sent = PIL.Image.open(io.BytesIO(inputs.image(PIL.Image.open(file)).value))
    assert sent.getexif()[0x0112] == 6
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(PIL.Image.open(file)))
    for mode in ("CMYK", "F", "YCbCr"):
        assert pixels(inputs.image(PIL.Image.new(mode, (4, 3)))).shape == (3, 4, 3)
    assert pixels(inputs.image(PIL.Image.new("P", (4, 3)))).shape == (3, 4)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("no/such/file.jpg", "No such file"),
        (np.zeros((4, 4)), "float64.*uint8"),
        (np.zeros((4, 4, 7), "u1"), "shape"),
        (io.StringIO("x"), "'rb'"),
        (7, "int is not an image"),
        ("https://example.com/cat.jpg", "https URL is not read: download the file"),
        ("s3://bucket/cat.jpg", "download the file"),
    ],
)
def test_what_is_no_image_is_named(item: Any, said: str):
    with pytest.raises(InvalidItemError, match=said):
        inputs.image(item)


def test_one_image_and_several_are_told_apart(tmp_path: Path):
    one = ["a.jpg", Path("a.jpg"), b"x", io.BytesIO(), PIL.Image.new("L", (1, 1)), PIXELS, PIXELS[..., 0]]
    assert all(map(inputs.is_one_image, one))
    several = [one, iter(one), PIXELS[None], pandas.Series(["a.jpg"]), np.array(["a.jpg"]), tmp_path.glob("*")]
    assert not any(map(inputs.is_one_image, several))


@pytest.mark.parametrize("many", [7, {"a.jpg": 1}])
def test_what_is_no_collection_is_refused(many: Any):
    with pytest.raises(TypeError, match="neither an item nor a collection"):
        inputs.items_of(many)


def test_missing_values_numpy_scalars_and_dates_become_json():
    row = {"a": np.float32(0.5), "b": np.nan, "c": pandas.NA, "d": pandas.NaT, "e": None, "f": np.int64(3), "g": True}
    row |= {"h": "Seoul", "i": pandas.Timestamp("2026-01-02"), 7: 1}
    assert inputs.row(row).value == {
        "a": 0.5,
        "b": None,
        "c": None,
        "d": None,
        "e": None,
        "f": 3,
        "g": True,
        "h": "Seoul",
        "i": "2026-01-02T00:00:00",
        "7": 1,
    }
    with pytest.raises(InvalidItemError, match="column 'x': list"):
        inputs.row({"x": []})


def test_a_frame_is_its_rows_and_a_series_is_one():
    frame = pandas.DataFrame({"n": [1, 2], "s": ["a", None]}, index=["p", "q"])
    assert [inputs.row(item).value for item in inputs.items_of(frame)] == [{"n": 1, "s": "a"}, {"n": 2, "s": None}]
    assert list(inputs.index_of(frame)) == ["p", "q"]
    assert not inputs.is_one_row(frame)
    assert inputs.is_one_row(frame.iloc[0])
    assert inputs.row(frame.iloc[0]).value == {"n": 1, "s": "a"}


def test_texts_are_strings_or_files(tmp_path: Path):
    path = tmp_path / "article.txt"
    path.write_text("öl", "utf-8")
    assert inputs.text("öl").value == inputs.text(path).value == "öl"
    for bad in (None, float("nan"), tmp_path / "none.txt"):
        with pytest.raises(InvalidItemError):
            inputs.text(bad)
    path.write_bytes("öl".encode("cp1252"))
    with pytest.raises(InvalidItemError, match=r"article\.txt"):
        inputs.text(path)


@pytest.mark.parametrize("vector", [[1, 2.0], (1,), np.zeros(3)])
def test_latents_are_one_vector_or_several(vector: Any):
    assert inputs.is_one_vector(vector)
    assert not inputs.is_one_vector([vector, vector])
    assert inputs.latents(vector).value == list(vector)


@pytest.mark.parametrize("make", [inputs.latents, inputs.row, inputs.text])
def test_anything_else_is_refused(make: Callable[[Any], object]):
    with pytest.raises(InvalidItemError):
        make(object())
