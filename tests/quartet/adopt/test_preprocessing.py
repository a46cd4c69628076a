import argparse
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from quartet.adopt.graph import CannotAdopt, Value
from quartet.adopt.preprocessing import add_options, preprocessing_of

PHOTOS = Value("x", "float32", ("N", 3, 224, 224))


def prepared(text: str, value: Value = PHOTOS):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser)
    return preprocessing_of(value, parser.parse_args(text.split()))


def test_imagenet_is_as_torchvision_evaluates():
    found = prepared("--preprocessing imagenet")
    assert found.mean == pytest.approx((123.675, 116.28, 103.53))
    assert found.std == pytest.approx((58.395, 57.12, 57.375))
    assert (found.resize, found.crop, found.interpolation) == ("image", 0.875, "bilinear")
    assert found.shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ("--preprocessing unit", (0,), (255,)),
        ("--preprocessing raw", (0,), (1,)),
        ("--mean 0.5 --std 0.5", (127.5,), (127.5,)),
        ("--mean 127.5 --std 127.5", (127.5,), (127.5,)),
        ("--mean 103.939,116.779,123.68", (103.939, 116.779, 123.68), (1,)),
        ("--std 255", (0,), (255,)),
        ("--preprocessing imagenet --mean 0 --std 1", (0,), (255,)),
    ],
)
def test_statistics_are_of_pixels_from_0_to_255(options, mean, std):
    found = prepared(options)
    assert (found.mean, found.std) == (pytest.approx(mean), pytest.approx(std))


@pytest.mark.parametrize(
    ("options", "crop"),
    [
        ("", 1),
        ("--resize-short 256", 0.875),
        ("--resize-short 256 --crop 192", 0.75),
        ("--crop 0.9", 0.9),
        ("--resize-short 224", 1),
    ],
)
def test_the_crop_is_a_share_of_the_short_side(options, crop):
    assert prepared(f"--preprocessing unit {options}").crop == crop


def test_a_stretched_image_is_used_whole():
    found = prepared("--preprocessing imagenet --stretch")
    assert (found.resize, found.crop) == ("stretch", 1)


@pytest.mark.parametrize(
    ("value", "options", "layout", "shape"),
    [
        (PHOTOS, "", "nchw", (224, 224, 3)),
        (Value("x", "float32", ("N", 1, 28, 32)), "", "nchw", (28, 32, 1)),
        (Value("x", "float32", (1, 28, 32, 3)), "", "nhwc", (28, 32, 3)),
        (Value("x", "float32", ("N", 28, 32)), "", "nhw", (28, 32, 1)),
        (Value("x", "float32", ("N", 3, "h", "w")), "--size 64x48", "nchw", (64, 48, 3)),
        (Value("x", "float32", ("N", "c", "h", "w")), "--size 64 --layout nhwc", "nhwc", (64, 64, 3)),
        (Value("x", "float32", ("N", 3, 3, 3)), "--layout nhwc", "nhwc", (3, 3, 3)),
    ],
)
def test_the_shape_of_the_input_tells_the_layout(value, options, layout, shape):
    found = prepared(f"--preprocessing unit {options}", value)
    assert (found.layout, found.shape) == (layout, shape)


def test_uint8_pixels_are_left_as_they_are():
    found = prepared("", Value("x", "uint8", ("N", 32, 32, 3)))
    assert (found.mean, found.std) == ((0,), (1,))


@pytest.mark.parametrize(
    ("options", "value", "message"),
    [
        ("", PHOTOS, "give --preprocessing imagenet, unit, raw or timm:MODEL, or --mean and --std"),
        ("--preprocessing imagnet", PHOTOS, "did you mean imagenet"),
        ("--preprocessing unit --size 200", PHOTOS, "has the height 224, and --size says 200"),
        ("--preprocessing unit", Value("x", "float32", ("N", 3, "h", "w")), "height of the input 'x' is open: give"),
        ("--preprocessing unit", Value("x", "float32", ("N", 10)), "images have four axes"),
        ("--preprocessing unit", Value("x", "float32", ("N", 4, 8, 8)), "give --layout"),
        ("--preprocessing unit", Value("x", "float32", ("N", 3, 8, 3)), "give --layout"),
        ("--preprocessing unit --layout nchw", Value("x", "float32", ("N", 8, 8, 3)), "has 8 channels"),
        ("--preprocessing unit", Value("x", "int64", ("N", 3, 8, 8)), "takes int64"),
        ("--preprocessing imagenet", Value("x", "float32", ("N", 1, 8, 8)), "one for each channel"),
        ("--preprocessing imagenet", Value("x", "uint8", ("N", 8, 8, 3)), "the graph normalises them"),
        ("--preprocessing unit --bgr", Value("x", "float32", ("N", 1, 8, 8)), "leave out --bgr"),
        ("--preprocessing unit --crop 200", PHOTOS, "give --resize-short too"),
        ("--preprocessing unit --crop 0.9 --resize-short 256", PHOTOS, "is a share already"),
        ("--preprocessing unit --resize-short 200", PHOTOS, "larger than the short side"),
        ("--preprocessing unit --stretch --crop 0.9", PHOTOS, "leave out --crop"),
    ],
)
def test_what_is_not_known_or_does_not_fit_is_refused(options, value, message):
    with pytest.raises(CannotAdopt, match=message):
        prepared(options, value)


@pytest.mark.parametrize("options", ["--size 0", "--size 1x2x3", "--crop 1.5", "--mean 1,2", "--std 0", "--mean nan"])
def test_options_that_make_no_sense(options):
    with pytest.raises(argparse.ArgumentError):
        prepared(options)


def test_timm_knows_how_its_models_are_evaluated(monkeypatch):
    known = SimpleNamespace(
        mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.9, interpolation="bicubic", input_size=(3, 192, 192),
        crop_mode="center",
    )  # fmt: skip
    models = SimpleNamespace(get_pretrained_cfg={"vit_small": known}.get)
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(models=models, list_models=lambda: ["vit_small"]))
    found = prepared("--preprocessing timm:vit_small", Value("x", "float32", ("N", 3, "h", "w")))
    assert found.shape == (192, 192, 3)
    assert (found.crop, found.interpolation) == (0.9, "bicubic")
    np.testing.assert_allclose(found.mean, 127.5)
    with pytest.raises(CannotAdopt, match="did you mean vit_small"):
        prepared("--preprocessing timm:vit_smal")


def test_where_timm_is_missing_a_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SystemExit, match="timm is not installed"):
        prepared("--preprocessing timm:resnet50")
