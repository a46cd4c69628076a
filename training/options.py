"""Command-line options that the recipes share, and the settings that they override."""

import dataclasses
import json
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from service.inference.cards import NAME_PATTERN
from training.fit import best_weights

_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def add_training_options(parser: ArgumentParser, run_dir: str) -> Any:
    """Adds how to train; returns the group, for what the recipe adds.

    Args:
        parser: the recipe's.
        run_dir: the default of `--run-dir`, in words.
    """
    how = parser.add_argument_group("training")
    for name, kind in (("epochs", int), ("batch-size", int), ("lr", float), ("backbone-lr", float), ("seed", int)):
        how.add_argument(f"--{name}", type=kind)
    how.add_argument("--optimizer", choices=("sgd", "adamw"))
    how.add_argument("--weight-decay", type=float)
    how.add_argument("--warmup", type=float, help="share of the steps in which the rate rises")
    how.add_argument("--ema", type=float, help="decay a step of the averaged weights")
    how.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    how.add_argument("--precision", choices=tuple(_PRECISIONS), default="float32")
    how.add_argument("--run-dir", type=Path, help=f"checkpoints and history (default: {run_dir})")
    how.add_argument(
        "--start-from", type=Path, metavar="RUN", help="begin with the best weights of another run or version"
    )
    how.add_argument("--resume", action="store_true", help="continue from the run's checkpoint")
    return how


def add_result_options(parser: ArgumentParser, name: str) -> Any:
    """Adds where the result goes; returns the group.

    Args:
        parser: the recipe's.
        name: the default of `--name`, in words.
    """
    out = parser.add_argument_group("result")
    out.add_argument("--name", help=f"the model's name (default: {name})")
    out.add_argument("--publish", action="store_true", help="write the next version below --models")
    out.add_argument("--models", type=Path, default=Path("models"))
    return out


def override(settings: Any, arguments: Namespace) -> Any:
    """`settings` (a dataclass) with every option that was given on the command line."""
    names = {field.name for field in dataclasses.fields(settings)}
    given = {key: value for key, value in vars(arguments).items() if key in names and value is not None}
    return dataclasses.replace(settings, **given)


def stated(arguments: Namespace, *parts: Any) -> dict[str, Any]:
    """Every setting of a training, in plain JSON types, for its manifest; `parts` are dataclasses."""
    settings: dict[str, Any] = {
        "precision": arguments.precision,
        "start_from": place_name(arguments.start_from),
    }
    for part in parts:
        settings |= json.loads(json.dumps(dataclasses.asdict(part)))
    return settings


def place_name(place: Path | None) -> str | None:
    """`NAME/VERSION` of a published version's folder, the last part of a run's."""
    parts = place.resolve().parts if place else ()
    return "/".join(parts[-2:] if parts[-1].isdecimal() else parts[-1:]) if parts else None


def origin(arguments: Namespace, fingerprint: str, **parts: Any) -> dict[str, Any]:
    """What a checkpoint was made from, beside the settings of its training; it is continued with the same alone.

    Args:
        arguments: of the command line.
        fingerprint: of the data.
        parts: dataclasses of settings, or plain values, by name.
    """
    return {
        "data": fingerprint,
        **{
            name: dataclasses.asdict(part) if dataclasses.is_dataclass(part) and not isinstance(part, type) else part
            for name, part in parts.items()
        },
        "start_from": str(arguments.start_from),
        "precision": arguments.precision,
    }


def start_from(model: nn.Module, run: Path | None) -> None:
    """Gives `model` the best weights of another run; nothing without one.

    Raises:
        ValueError: no such run, or one of another network.
    """
    if run:
        try:
            model.load_state_dict(best_weights(run))
        except RuntimeError as error:
            raise ValueError(f"--start-from {run}: is a run of another network: {error}") from None


def check_name(name: str | None) -> None:
    """Refuses a name that no model may have.

    Raises:
        ValueError: says which letters may be in it.
    """
    if name and not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"--name {name!r}: letters, digits, dots, dashes and underscores alone")


def make_accelerator(arguments: Namespace) -> Accelerator:
    """The device and the precision that were asked for.

    Raises:
        ValueError: this machine does not have them.
    """
    if arguments.precision == "float16" and (arguments.device == "cpu" or not torch.cuda.is_available()):
        raise ValueError("--precision float16 needs a GPU; on a CPU use bfloat16 or float32")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
    return Accelerator(cpu=arguments.device == "cpu", mixed_precision=_PRECISIONS[arguments.precision])
