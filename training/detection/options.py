"""The options of the recipe for a detector."""

import re
from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro

from training.engine.settings import FitSettings
from training.options import BackboneFitOptions, Options

_BACKBONE = "tf_efficientnet_lite0"
FROZEN = 2
DEFAULTS = FitSettings(
    epochs=15, batch_size=8, optimizer="adamw", lr=2e-3, backbone_lr=5e-4, weight_decay=0.05, warmup=0.05, clip=10.0,
    ema=0.998, patience=10,
)  # fmt: skip
# Few images are seen more often, this many in all, but each at most so often; and in smaller batches, for more steps.
_SEEN, _MOST_EPOCHS, _FEW, _SMALL_BATCH = 8000, 40, 600, 4


def defaults(images: int) -> FitSettings:
    """The settings for a number of training images."""
    epochs = min(_MOST_EPOCHS, max(DEFAULTS.epochs, round(_SEEN / max(1, images))))
    batch_size = _SMALL_BATCH if images < _FEW else DEFAULTS.batch_size
    return replace(DEFAULTS, epochs=epochs, batch_size=batch_size, patience=max(DEFAULTS.patience, epochs // 3))


def _size(words: list[str]) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", words[0])
    if not match:
        raise ValueError(f"{words[0]!r}: write a side, such as 320, or HEIGHTxWIDTH, such as 384x512")
    height, width = int(match[1]), int(match[2] or match[1])
    if height % 32 or width % 32 or not height or not width:
        raise ValueError(f"{words[0]!r}: the sides must be multiples of 32, such as 320 or 384x512")
    return height, width


Size = Annotated[
    tuple[int, int],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="SIDE|HEIGHTxWIDTH",
        instance_from_str=_size,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: ["x".join(map(str, value))],
    ),
]


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The network.

    Attributes:
        backbone: one with feature maps of strides 8, 16 and 32: a timm model, torchvision:NAME or package.module:Name.
        weights: where its pretrained weights come from: hub, package, none or a file.
        width: channels of the pyramid and of the head.
        depth: separable convolutions in each tower of the head.
        freeze: how many groups of layers of the backbone are frozen: the stem, then the stages after it; 2 by default,
            and 4 of the default backbone for few images.
        recompute: compute activations again in the backward pass; less memory, more time.
    """

    backbone: str = _BACKBONE
    weights: str = "package"
    width: int = 96
    depth: int = 2
    freeze: int | None = None
    recompute: bool = False

    def for_images(self, images: int) -> "NetworkSettings":
        """These settings with `freeze` for a number of training images, unless it is given."""
        if self.freeze is not None:
            return self
        return replace(self, freeze=4 if images < _FEW and self.backbone == _BACKBONE else FROZEN)


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Augmentation.

    Attributes:
        flip: mirror images left to right, with probability 0.5.
        flip_vertical: flip images upside down too, with probability 0.5; for images without an up.
        scale: the range that images are scaled by.
        mosaic: fraction of the images that are composed of four.
        colour: strength of the colour jitter.
    """

    flip: bool = True
    flip_vertical: bool = False
    scale: tuple[float, float] = (0.7, 1.4)
    mosaic: float = 0.5
    colour: float = 0.2


@dataclass(frozen=True, kw_only=True)
class DetectionOptions(Options):
    """Trains on images with boxes.

    Attributes:
        data: a hub id, or a folder of annotated images.
        image_size: of the input of the network; by default the long side is 320, or 512 for small objects.
        interpolate: move the weights back towards --init-from if validation gains.
    """

    data: str = "rishitdagli/cppe-5"
    image_size: Size | None = None
    interpolate: bool = False
    fit: BackboneFitOptions = field(default_factory=BackboneFitOptions)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    augment: AugmentOptions = field(default_factory=AugmentOptions)

    def check(self) -> None:
        super().check()
        if self.interpolate and not self.init_from:
            raise ValueError("--interpolate moves back towards the weights of --init-from: name them")
