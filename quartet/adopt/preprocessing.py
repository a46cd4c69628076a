"""How an image becomes the tensor that a graph takes: what the service does with it, and what the graph does."""

import argparse
import difflib
import math
from dataclasses import dataclass
from typing import Literal

from quartet.adopt.graph import CannotAdopt, Value
from quartet.console import did_you_mean
from quartet.extras import needs

Layout = Literal["nchw", "nhwc", "nhw"]
Interpolation = Literal["bicubic", "bilinear"]
Resize = Literal["image", "stretch"]

_DTYPES = ("uint8", "float16", "float32", "float64")
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Preset:
    """A preprocessing that has a name.

    Attributes:
        mean: of pixels from 0 to 1, one number or one for each channel; so is `std`.
        crop: the share of the largest centred part of an image that is used.
        size: height and width, where the preset knows them.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float = 1.0
    interpolation: Interpolation = "bicubic"
    size: tuple[int, int] | None = None
    stretch: bool = False


PRESETS = {
    # As torchvision's references evaluate: the short side is resized to 256 for a crop of 224.
    "imagenet": Preset(*_IMAGENET, crop=0.875, interpolation="bilinear"),
    "unit": Preset((0.0,), (1.0,)),
    "raw": Preset((0.0,), (1 / 255,)),
}
_TIMM = "timm:"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The size of the images, and what is done to their pixels.

    Attributes:
        channels: 3, or 1 for grey.
        resize: as in `service.tasks.cards.ImageInput`, as are `crop` and `interpolation`.
        mean: of pixels from 0 to 255, one number or one for each channel as the graph orders them; so is `std`.
        layout: of the tensor; `nhw` is grey without an axis of channels.
        bgr: whether the graph takes blue first.
        dtype: of the tensor.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    resize: Resize
    crop: float
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Layout
    bgr: bool
    dtype: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def lines(self) -> tuple[str, ...]:
        """What is done, for people."""
        part = "the whole image" if self.resize == "stretch" else "the largest centred part of this aspect"
        share = "" if self.crop == 1 else f"{self.crop:.4g} of "
        size = f"{self.height} x {self.width}"
        lines = [f"images: {share}{part}, resized to {size} ({self.interpolation}), by the service"]
        if self.mean == (0.0,) and self.std == (1.0,):
            pixels = "from 0 to 255, as they are"
        else:
            mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (self.mean, self.std))
            pixels = f"less {mean}, divided by {std}"
        order = {3: "BGR" if self.bgr else "RGB", 1: "grey"}[self.channels]
        lines.append(f"pixels: {pixels}; {order}, {self.layout.upper()}, {self.dtype}, in the graph")
        return tuple(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how a model's images were prepared for its training."""
    group = parser.add_argument_group("preprocessing", "as in the training of the model")
    group.add_argument(
        "--preprocessing", metavar="NAME",
        help="imagenet (its mean and standard deviation, and a crop of 224 of 256), unit (pixels from 0 to 1), raw "
        "(from 0 to 255), or timm:MODEL (that of timm's pretrained model); the options below override parts of it",
    )  # fmt: skip
    group.add_argument(
        "--size", metavar="N|HxW", type=_size, help="height and width of the input (default: what the graph states)"
    )
    group.add_argument(
        "--resize-short", metavar="N", type=_positive, help="the short side of an image before the centred crop"
    )
    group.add_argument(
        "--crop", metavar="N", type=_crop,
        help="the side of the centred crop in pixels (default: the size), or its share of the short side, up to 1",
    )  # fmt: skip
    group.add_argument(
        "--stretch", action="store_true",
        help="resize the whole image, whatever its aspect, as Keras and many processors of Hugging Face do",
    )  # fmt: skip
    group.add_argument(
        "--interpolation", choices=("bicubic", "bilinear"), help="how images are resized (default: bicubic)"
    )
    group.add_argument(
        "--mean", metavar="M,M,M", type=_numbers,
        help="subtracted from the pixels, one number or one for each channel: of pixels from 0 to 1, or from 0 to 255 "
        "if any number of --mean or --std is above 1",
    )  # fmt: skip
    group.add_argument("--std", metavar="S,S,S", type=_deviations, help="divides the pixels; see --mean")
    group.add_argument("--layout", choices=("nchw", "nhwc"), help="of the input, where its shape does not tell")
    group.add_argument("--bgr", action="store_true", help="the graph takes blue, green, red, as OpenCV reads files")


def preprocessing_of(value: Value, options: argparse.Namespace) -> Preprocessing:
    """The preprocessing for an input of images, by its shape and dtype and by what the user states.

    Raises:
        CannotAdopt: the input takes no images, or it is not known how to prepare them.
    """
    if value.dtype not in _DTYPES:
        raise CannotAdopt(
            "no images", f"The input {value.name!r} takes {value.dtype}; images are {', '.join(_DTYPES)}."
        )
    layout, channels, height, width = _axes(value, options.layout)
    preset = _preset(value, options)
    size = [
        _side(value, axis, stated, options.size and options.size[index], preset.size and preset.size[index])
        for index, (axis, stated) in enumerate((("height", height), ("width", width)))
    ]
    mean, std = _statistics(preset, options)
    for name, numbers in (("--mean", mean), ("--std", std)):
        if len(numbers) not in (1, channels):
            plural = "channel" if channels == 1 else "channels"
            raise CannotAdopt(
                "preprocessing",
                f"{name} has {len(numbers)} numbers, and the input {value.name!r} {channels} {plural}: give one number "
                "or one for each channel.",
            )
    if options.bgr and channels == 1:
        raise CannotAdopt("preprocessing", f"The input {value.name!r} takes grey images: leave out --bgr.")
    return Preprocessing(
        height=size[0],
        width=size[1],
        channels=channels,
        resize="stretch" if options.stretch or preset.stretch else "image",
        crop=_share(preset, options, min(size)),
        interpolation=options.interpolation or preset.interpolation,
        mean=mean,
        std=std,
        layout=layout,
        bgr=options.bgr,
        dtype=value.dtype,
    )


def _axes(value: Value, stated: Layout | None) -> tuple[Layout, Literal[1, 3], int | str, int | str]:
    """The layout, the number of channels, height and width."""
    shape = value.shape or ()
    shown = f"The input {value.name!r} has the shape {list(shape)}"
    if len(shape) == 3 and stated is None:
        return "nhw", 1, shape[1], shape[2]
    if len(shape) != 4:
        raise CannotAdopt("no images", f"{shown}; images have four axes: batch, height, width and channels.")
    layouts: tuple[tuple[Layout, int], ...] = (("nchw", 1), ("nhwc", 3))
    found = [layout for layout, axis in layouts if shape[axis] in (1, 3)]
    if stated is None and len(found) != 1:
        raise CannotAdopt(
            "no images", f"{shown}, of which no axis or more than one has 3 or 1 channels: give --layout nchw or nhwc."
        )
    layout: Layout = stated or found[0]
    channels = shape[1 if layout == "nchw" else 3]
    if isinstance(channels, int) and channels not in (1, 3):
        raise CannotAdopt("no images", f"{shown}: in the layout {layout} it has {channels} channels, not 3 or 1.")
    height, width = shape[2:] if layout == "nchw" else shape[1:3]
    return layout, 1 if channels == 1 else 3, height, width


def _preset(value: Value, options: argparse.Namespace) -> Preset:
    name = options.preprocessing
    if value.dtype == "uint8":
        if options.mean or options.std or name in ("imagenet", "unit"):
            raise CannotAdopt(
                "preprocessing",
                f"The input {value.name!r} takes uint8 pixels, so the graph normalises them: leave out --mean, --std "
                "and --preprocessing, or use --preprocessing raw.",
            )
        return PRESETS["raw"]
    if name is None and not (options.mean or options.std):
        raise CannotAdopt(
            "preprocessing",
            "It is not known how the images were prepared in training: give --preprocessing imagenet, unit, raw or "
            "timm:MODEL, or --mean and --std.",
        )
    if name is None:
        return PRESETS["unit"]
    if name.startswith(_TIMM):
        return _from_timm(name.removeprefix(_TIMM))
    if name not in PRESETS:
        there = did_you_mean(name, PRESETS, "the names are")
        raise CannotAdopt("preprocessing", f"There is no preprocessing {name!r}{there}")
    return PRESETS[name]


def _from_timm(model: str) -> Preset:
    """The preprocessing of a pretrained model of timm."""
    with needs("training"):
        import timm
    found = timm.models.get_pretrained_cfg(model)
    if found is None:
        near = difflib.get_close_matches(model, timm.list_models(), n=1)
        hint = f"did you mean {near[0]}?" if near else "timm.list_pretrained() names them."
        raise CannotAdopt("preprocessing", f"timm has no pretrained model {model!r}: {hint}")
    interpolation: Interpolation = "bilinear" if found.interpolation == "bilinear" else "bicubic"
    _, height, width = found.input_size
    squashed = found.crop_mode == "squash" and found.crop_pct == 1
    return Preset(tuple(found.mean), tuple(found.std), found.crop_pct, interpolation, (height, width), squashed)


def _side(value: Value, axis: str, stated: int | str, wanted: int | None, usual: int | None) -> int:
    if isinstance(stated, int):
        if wanted not in (None, stated):
            raise CannotAdopt(
                "preprocessing", f"The input {value.name!r} has the {axis} {stated}, and --size says {wanted}."
            )
        return stated
    if not (side := wanted or usual):
        raise CannotAdopt("preprocessing", f"The {axis} of the input {value.name!r} is open: give --size.")
    return side


def _statistics(preset: Preset, options: argparse.Namespace) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels from 0 to 255."""
    if not (options.mean or options.std):
        mean, std = preset.mean, preset.std
    else:
        mean, std = options.mean or (0.0,), options.std or (1.0,)
        if max(*mean, *std) > 1:
            return mean, std
    # Exactly 1 for raw pixels.
    return tuple(255 * value for value in mean), tuple(255 * value for value in std)


def _share(preset: Preset, options: argparse.Namespace, side: int) -> float:
    """The share of an image's largest centred part that is used."""
    crop: float | None = options.crop
    if options.stretch and (crop or options.resize_short):
        raise CannotAdopt("preprocessing", "--stretch uses the whole image: leave out --crop and --resize-short.")
    if options.stretch or preset.stretch:
        return 1.0
    if crop is not None and crop <= 1:
        if options.resize_short:
            raise CannotAdopt("preprocessing", "--crop is a share already: leave out --resize-short, or give pixels.")
        return crop
    if crop is not None and not options.resize_short:
        raise CannotAdopt(
            "preprocessing", f"--crop {crop:g} is in pixels: give --resize-short too, or a share up to 1."
        )
    if not options.resize_short:
        return preset.crop
    pixels = crop or side
    if pixels > options.resize_short:
        raise CannotAdopt(
            "preprocessing",
            f"A crop of {pixels:g} pixels is larger than the short side, --resize-short {options.resize_short}.",
        )
    return float(pixels / options.resize_short)


def _positive(text: str) -> int:
    number = int(text)
    if not 0 < number <= 1 << 14:
        raise argparse.ArgumentTypeError("must be between 1 and 16384")
    return number


def _size(text: str) -> tuple[int, int]:
    sides = [_positive(side) for side in text.split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is neither N nor HEIGHTxWIDTH")
    return sides[0], sides[-1]


def _crop(text: str) -> float:
    number = float(text)
    if not (0 < number <= 1 << 14 and (number <= 1 or number.is_integer())):
        raise argparse.ArgumentTypeError("must be a share up to 1, or a number of pixels")
    return number


def _numbers(text: str) -> tuple[float, ...]:
    numbers = tuple(float(part) for part in text.replace(",", " ").split())
    if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError("must be one number, or three with commas between")
    return numbers


def _deviations(text: str) -> tuple[float, ...]:
    numbers = _numbers(text)
    if min(numbers) <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return numbers
