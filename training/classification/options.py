"""The command line of the recipe for an image classifier."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from pathlib import Path
from typing import Literal

from training.engine.settings import FitSettings
from training.options import (
    add_labelled_image_options,
    add_quantize_option,
    add_result_options,
    add_training_options,
    add_weights_options,
    check_interpolation,
    integers,
)

Arch = Literal["mlp", "cnn", "transfer"]

# Defaults for each architecture, sized for CIFAR-10 on two cores (the CNN takes 45 minutes in bfloat16).
DEFAULTS: dict[Arch, FitSettings] = {
    "mlp": FitSettings(epochs=20, lr=0.1),
    "cnn": FitSettings(epochs=20),
    "transfer": FitSettings(
        epochs=8, batch_size=128, optimizer="adamw", lr=2e-3, backbone_lr=5e-4, weight_decay=0.02, ema=0.995, warmup=0.1
    ),
}
# Options that only one architecture has.
ONLY: dict[Arch, frozenset[str]] = {
    "cnn": frozenset({"widths", "depth", "distill_features"}),
    "transfer": frozenset(
        {"backbone", "weights", "network_size", "start_size", "freeze", "freeze_norms", "backbone_lr"}
    ),
}


def add_arguments(parser: ArgumentParser) -> None:
    """The recipe's command line; options left out take the architecture's own default."""
    parser.add_argument("--arch", choices=("mlp", "cnn", "transfer"), default="cnn", help="default: cnn")
    add_labelled_image_options(parser, "uoft-cs/cifar10")
    net = parser.add_argument_group("network")
    net.add_argument("--widths", type=integers, help="cnn: filters of each group (default: 64,256,256)")
    net.add_argument("--depth", type=int, help="cnn: convolutions per group (default: 3)")
    net.add_argument("--dropout", type=float, help="of the last features (default: 0.0)")
    net.add_argument(
        "--backbone",
        help="transfer: [timm:]NAME, torchvision:NAME, quartet:cnn or package.module:NAME (default: tf_efficientnet_lite0)",
    )
    net.add_argument("--weights", help="transfer: hub, package, none or a file (default: package)")
    net.add_argument(
        "--from-scratch", dest="weights", action="store_const", const="none", help="transfer: start with random weights"
    )
    net.add_argument(
        "--network-size", type=int, help="transfer: side in pixels that images are enlarged to (default: 128)"
    )
    net.add_argument(
        "--start-size", type=int, help="transfer: the smaller side that training starts with (default: 64)"
    )
    net.add_argument(
        "--freeze",
        type=int,
        nargs="?",
        const=-1,
        metavar="GROUPS",
        help="transfer: freeze the backbone; with a number: only the first groups of its layers (default: 0)",
    )
    net.add_argument(
        "--freeze-norms",
        action="store_true",
        default=None,
        help="transfer: freeze the statistics of batch normalisation",
    )
    defaults = {str(arch): settings for arch, settings in DEFAULTS.items()}
    how = add_training_options(parser, "runs/classification-ARCH-DATA", defaults)
    how.add_argument("--label-smoothing", type=float, help="probability mass spread over all classes (default: 0.1)")
    how.add_argument(
        "--flip",
        action=BooleanOptionalAction,
        help="mirror images left to right; not for digits, letters (default: on)",
    )
    how.add_argument(
        "--cutout",
        type=int,
        help="side in pixels of the square that is blanked (default: 8, more in images over 32 pixels; 0 for mlp)",
    )
    how.add_argument(
        "--cutmix", type=float, help="fraction of batches whose images get a rectangle of another one (default: 0.0)"
    )
    how.add_argument("--teacher", type=Path, help="a published version to learn from too, such as models/NAME/1")
    how.add_argument("--distill", type=float, help="weight of the teacher's prediction in the loss (default: 0.7)")
    how.add_argument(
        "--distill-features", type=float, help="cnn: weight of the teacher's features in the loss (default: 0.0)"
    )
    out = add_result_options(parser, "classifier, classifier-mlp or classifier-transfer")
    add_quantize_option(out)
    out.add_argument("--mirror", action="store_true", help="average over an image and its mirror image when serving")
    add_weights_options(out)


def check_arguments(arguments: Namespace) -> None:
    """Refuses options that would have no effect.

    Raises:
        ValueError: names the option and what it is for.
    """
    given = {name for name, value in vars(arguments).items() if value is not None and value is not False}
    for arch, names in ONLY.items():
        for name in sorted(names & given):
            if arguments.arch != arch:
                raise ValueError(f"--{name.replace('_', '-')} is for --arch {arch}, not {arguments.arch}")
    for option, part in (("distill", "predictions"), ("distill_features", "features")):
        if getattr(arguments, option) is not None and not arguments.teacher:
            raise ValueError(f"--{option.replace('_', '-')} weights the {part} of a --teacher: name one")
    check_interpolation(arguments)
    if arguments.backbone_lr is not None and arguments.freeze == -1:
        raise ValueError("--backbone-lr is for a backbone that learns; --freeze without a number freezes all of it")
    if arguments.lr is None and arguments.optimizer not in (None, DEFAULTS[arguments.arch].optimizer):
        raise ValueError(
            f"--optimizer {arguments.optimizer} needs its own --lr: the default is for "
            f"{DEFAULTS[arguments.arch].optimizer}"
        )
    if arguments.mirror and arguments.flip is False:
        raise ValueError("--mirror predicts mirror images, which --no-flip excludes from training: use one of them")
