"""Command-line options that several recipes share, and the settings that they override."""

import dataclasses
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.engine.settings import FitSettings

# Packages of the same names, through accelerate.
TRACKERS = ("tensorboard", "mlflow", "wandb")
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def add_data_options(
    parser: ArgumentParser, accepts: str, *, default: str | None = None, limited: str | None = None
) -> None:
    """Adds which data to train on.

    Args:
        parser: the recipe's.
        accepts: what `--data` may be, in words.
        default: of `--data`; None makes it required.
        limited: what `--limit` counts, in the plural; None for no such option.
    """
    shown = "" if default is None else " (default: %(default)s)"
    parser.add_argument("--data", default=default, required=default is None, help=accepts + shown)
    parser.add_argument("--data-name", help="what to call the data set in the report (default: its id, folder or file)")
    if limited:
        parser.add_argument(
            "--limit", type=int, help=f"use at most this many {limited} of each split, for a trial (default: all)"
        )


def add_labelled_image_options(parser: ArgumentParser, default: str, largest: int = 224) -> None:
    """Adds which images to train on.

    Args:
        parser: the recipe's.
        default: a hub id.
        largest: the side in pixels of images that have no common size, or a larger one.
    """
    accepts = "a hub id, a URL, or a folder or archive with parquet, class folders, or a table of labels"
    add_data_options(parser, accepts, default=default, limited="images")
    add_reading_options(parser, "images")
    parser.add_argument(
        "--image-size", type=int, help=f"side of the images in pixels (default: their own, or {largest})"
    )


def add_reading_options(parser: ArgumentParser, items: str, *, text: bool = True) -> None:
    """Adds how the data is read.

    Args:
        parser: the recipe's.
        items: what the data consists of, in the plural.
        text: whether it may lie in text files.
    """
    parser.add_argument(
        "--bad",
        choices=("refuse", "drop"),
        default="refuse",
        help=f"what to do with {items} that cannot be used (default: %(default)s); they are named either way",
    )
    if text:
        parser.add_argument("--encoding", help="of text files, such as cp949 (default: found)")


def add_training_options(parser: ArgumentParser, run_dir: str, defaults: Mapping[str, FitSettings]) -> Any:
    """Adds how to train; returns the group, for what the recipe adds.

    Args:
        parser: the recipe's.
        run_dir: the default of `--run-dir`, in words.
        defaults: by what they are for, such as an architecture; a single one may be for anything.
    """
    # Whether to stop at what is in the data, and whether to ask before a long training.
    parser.set_defaults(inspect=False, ask=False)
    how = parser.add_argument_group("training")

    def add(name: str, kind: type, words: str, **more: Any) -> None:
        how.add_argument(f"--{name}", type=kind, help=words + _defaults(name.replace("-", "_"), defaults), **more)

    add("epochs", int, "passes over the training data; with --resume, more than before go on from there")
    add("patience", int, "end after so many epochs without a better validation score; 0 for never")
    add("batch-size", int, "items per step, over all devices")
    add("lr", float, "peak learning rate")
    if any(each.backbone_lr is not None for each in defaults.values()):
        add("backbone-lr", float, "peak learning rate of the pretrained backbone")
    add("optimizer", str, "sgd or adamw", choices=("sgd", "adamw"))
    add("weight-decay", float, "of weights, not of biases")
    add("warmup", float, "fraction of the steps in which the learning rate rises")
    add("ema", float, "decay per step of the averaged weights")
    add("seed", int, "of weights, order, augmentation and splits")
    how.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    how.add_argument("--precision", choices=tuple(PRECISIONS), default="float32", help="default: float32")
    how.add_argument("--run-dir", type=Path, help=f"checkpoints and history (default: {run_dir})")
    how.add_argument(
        "--start-from", type=Path, metavar="RUN", help="start from the best weights of another run or version"
    )
    how.add_argument("--resume", action="store_true", help="continue from the run's checkpoint")
    how.add_argument("--track", choices=TRACKERS, help="write every epoch's figures there too (default: nowhere)")
    return how


def _defaults(name: str, defaults: Mapping[str, FitSettings]) -> str:
    """What an option is by default, where that differs for each thing that it is for."""
    values = {what: getattr(settings, name) for what, settings in defaults.items()}
    values = {what: value for what, value in values.items() if value is not None}
    if len({*values.values()}) == 1:
        return f" (default: {next(iter(values.values()))})"
    return f" (default: {', '.join(f'{value} for {what}' for what, value in values.items())})"


def add_result_options(parser: ArgumentParser, name: str) -> Any:
    """Adds where the result goes; returns the group.

    Args:
        parser: the recipe's.
        name: the default of `--name`, in words.
    """
    out = parser.add_argument_group("result")
    out.add_argument("--name", help=f"the model's name (default: {name})")
    out.add_argument("--publish", action="store_true", help="publish the next version below --models")
    out.add_argument("--models", type=Path, default=Path("models"), help="folder of the models (default: %(default)s)")
    add_gate_options(out)
    return out


def add_gate_options(parser: Any) -> None:
    """Adds to a parser, or to one of its groups, whether a published version becomes the default."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--force",
        action="store_true",
        help="make the new version the default although its test figures are worse than those of the version that "
        "serves (default: it becomes the candidate then)",
    )
    choice.add_argument(
        "--candidate", action="store_true", help="publish as the candidate, which does not become the default"
    )


def add_quantize_option(out: Any) -> None:
    """Adds to the group of the result whether variants are tried."""
    out.add_argument("--quantize", action="store_true", help="also try smaller and faster variants, and keep the good")


def add_weights_options(out: Any) -> None:
    """Adds to the group of the result which weights are taken, and whether they are published beside the graph."""
    out.add_argument(
        "--interpolate", action="store_true", help="move the weights back towards --start-from if validation gains"
    )
    out.add_argument("--keep-weights", action="store_true", help="also write the weights, for another --start-from")


def check_interpolation(arguments: Namespace) -> None:
    """Refuses an interpolation that has no start.

    Raises:
        ValueError: says so.
    """
    if arguments.interpolate and not arguments.start_from:
        raise ValueError("--interpolate moves back towards the weights of --start-from: name them")


def integers(text: str) -> tuple[int, ...]:
    """The type of an option such as `--widths 64,256,256`."""
    return tuple(int(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """The type of an option such as `--drop id,name`."""
    return tuple(name for part in text.split(",") if (name := part.strip()))


def override(settings: Any, arguments: Namespace) -> Any:
    """`settings` (a dataclass) with every option that was given on the command line."""
    names = {field.name for field in dataclasses.fields(settings)}
    given = {key: value for key, value in vars(arguments).items() if key in names and value is not None}
    return dataclasses.replace(settings, **given)


def short_name(folder: Path | None) -> str | None:
    """`NAME/VERSION` for the folder of a published version, the last part of the path for a run's."""
    parts: Sequence[str] = folder.resolve().parts if folder else ()
    return "/".join(parts[-2:] if parts[-1].isdecimal() else parts[-1:]) if parts else None
