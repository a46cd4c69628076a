"""quartet adopt: serves a model that was trained elsewhere; the options of plain tensors import nothing heavy."""

import argparse
import importlib
import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quartet.console import FAILED, MISUSED, fail
from quartet.extras import needs

if TYPE_CHECKING:
    from quartet.adopt.base import AdoptTask

_PLAIN = "tensors"
# A task registers its `AdoptTask` here, as MODULE:NAME.
TASKS: Mapping[str, str] = {
    _PLAIN: "quartet.adopt.plain:PLAIN",
    "classification": "quartet.adopt.classification:CLASSIFICATION",
    "detection": "quartet.adopt.detection:DETECTION",
    "tabular": "quartet.adopt.tabular.task:TABULAR",
    "text": "quartet.adopt.text.task:TEXT",
}
_RANGE = re.compile(r"(?P<name>.+)=(?P<low>[^:=]+):(?P<high>[^:=]+)")


def main(arguments: Sequence[str] | None = None, prog: str = "quartet") -> int:
    """Adopts a graph; returns 0 if it is published, 1 if it cannot be served, 2 for a wrong option."""
    given = list(arguments if arguments is not None else sys.argv[1:])
    given = given[1:] if given[:1] == ["adopt"] else given
    options = read_options(given, prog)
    with needs("adopt"):
        import onnxruntime

        from quartet.adopt.graph import CannotAdopt
        from quartet.adopt.run import adopt
        from service.inference.cards import NAME_PATTERN

    if not re.fullmatch(NAME_PATTERN, options.name):
        return fail(MISUSED, f"--name {options.name!r}: use letters, digits, dots, dashes and underscores.")
    # What it says of a graph is part of the error.
    onnxruntime.set_default_logger_severity(4)
    # The manifest states no folders of this machine.
    command = shlex.join([prog, "adopt", *(Path(each).name if "/" in each else each for each in given)])
    try:
        adopt(find_task(options.task), options, command, report=print)
    except CannotAdopt as error:
        return fail(FAILED, str(error))
    except OSError as error:
        return fail(FAILED, f"{error.filename}: {error.strerror}")
    return 0


def find_task(name: str) -> "AdoptTask":
    """A task by its name; its module needs the extra `adopt`."""
    module, _, attribute = TASKS[name].partition(":")
    with needs("adopt"):
        task: AdoptTask = getattr(importlib.import_module(module), attribute)
    return task


def read_options(arguments: Sequence[str], prog: str) -> argparse.Namespace:
    """The options of a command line, with those of its task.

    Of every task: `file`, `name`, `models`, `samples` (a path or None), `ranges` (by input), `max_batch`, `max_length`,
    `task`.
    """
    options = make_parser(prog, task_of(arguments)).parse_args(arguments)
    options.ranges = dict(options.range)
    return options


def task_of(arguments: Sequence[str]) -> str:
    """The task that a command line names, if there is such a task."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--task", nargs="?", default=_PLAIN)
    task = parser.parse_known_args(list(arguments))[0].task
    return task if task in TASKS else _PLAIN


def make_parser(prog: str, task: str = _PLAIN) -> argparse.ArgumentParser:
    """The parser of the options that every task has, and of those of a task."""
    parser = argparse.ArgumentParser(
        prog=f"{prog} adopt",
        allow_abbrev=False,
        description="Makes the next version of a model from an ONNX file that was exported elsewhere, or says why it "
        "cannot be served.",
        epilog="`quartet adopt --task TASK --help` shows the options of a task.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the ONNX file; all weights are inside")
    parser.add_argument("--name", required=True, help="of the model")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(os.environ.get("QUARTET_MODELS") or "models"),
        metavar="FOLDER",
        help="the models: QUARTET_MODELS=FOLDER (default: models)",
    )
    parser.add_argument(
        "--task", choices=TASKS, default=_PLAIN, help="what the graph is for (default: %(default)s, any graph)"
    )
    parser.add_argument(
        "--samples",
        type=Path,
        metavar="FILE",
        help="npz with an array for each input, or what the task takes (default: random values)",
    )
    parser.add_argument(
        "--range",
        type=_range,
        action="append",
        default=[],
        metavar="NAME=LOW:HIGH",
        help="the values of an input: random samples are drawn from it, and clients may send no others; repeatable",
    )
    parser.add_argument(
        "--max-batch", type=_positive, default=64, metavar="N", help="the largest batch to check (default: %(default)s)"
    )
    parser.add_argument(
        "--max-length",
        type=_positive,
        default=2048,
        metavar="N",
        help="the largest size of an open axis (default: %(default)s)",
    )
    if task == _PLAIN:
        parser.add_argument(
            "--explicit-state",
            action="store_true",
            help="clients send the state with each call, and read its next value from the answer",
        )
    else:
        find_task(task).add_options(parser)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _range(text: str) -> tuple[str, tuple[float, float]]:
    found = _RANGE.fullmatch(text)
    try:
        if found and (low := float(found["low"])) <= (high := float(found["high"])) and math.isfinite(high - low):
            return found["name"], (low, high)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LOW:HIGH, such as ids=0:999")
