"""The command line of the recipe for a detector."""

import re
from argparse import ArgumentParser, ArgumentTypeError

from training.engine.settings import FitSettings
from training.options import (
    add_data_options,
    add_quantize_option,
    add_reading_options,
    add_result_options,
    add_training_options,
    add_weights_options,
)

# Sized for a few hundred photographs on two cores.
DEFAULTS = FitSettings(
    epochs=100,
    batch_size=8,
    optimizer="adamw",
    lr=2e-3,
    backbone_lr=5e-4,
    weight_decay=0.05,
    warmup=0.05,
    clip=10.0,
    ema=0.998,
)


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take their default."""
    add_data_options(
        parser, "a hub id, or a folder of annotated images", default="rishitdagli/cppe-5", limited="images"
    )
    parser.add_argument(
        "--image-size",
        type=_size,
        metavar="SIDE|HEIGHTxWIDTH",
        help="of the network's input (default: a long side of 512)",
    )
    add_reading_options(parser, "images and boxes", text=False)
    net = parser.add_argument_group("network")
    net.add_argument(
        "--backbone", help="any timm model with feature maps of strides 8, 16 and 32 (default: tf_efficientnet_lite0)"
    )
    net.add_argument("--weights", help="hub, package, none or a file (default: package)")
    net.add_argument(
        "--from-scratch", dest="weights", action="store_const", const="none", help="start with random weights"
    )
    net.add_argument("--width", type=int, help="channels of the pyramid and the head (default: 96)")
    net.add_argument("--depth", type=int, help="convolutions in each tower of the head (default: 2)")
    net.add_argument(
        "--freeze", type=int, metavar="GROUPS", help="freeze this many: the stem, then the stages after it (default: 2)"
    )
    how = add_training_options(parser, "runs/detection-DATA", {"any": DEFAULTS})
    how.add_argument(
        "--flip",
        action="store_true",
        default=None,
        help="flip images upside down too; if they have no up (default: off)",
    )
    how.add_argument("--mosaic", type=float, help="fraction of the images that are composed of four (default: 0.5)")
    how.add_argument(
        "--scale", type=_range, metavar="LEAST,MOST", help="range that images are scaled by (default: 0.7,1.4)"
    )
    how.add_argument("--colour", type=float, help="strength of the colour jitter (default: 0.2)")
    out = add_result_options(parser, "detector")
    add_quantize_option(out)
    add_weights_options(out)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match:
        raise ArgumentTypeError(f"{text!r}: write a side, such as 320, or HEIGHTxWIDTH, such as 384x512")
    height, width = int(match[1]), int(match[2] or match[1])
    if height % 32 or width % 32 or not height or not width:
        raise ArgumentTypeError(f"{text!r}: the sides must be multiples of 32, such as 320 or 384x512")
    return height, width


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: write LEAST,MOST, such as 0.7,1.4") from None
    return low, high
