"""quartet adopt: serves a model that was trained elsewhere."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from quartet.console import FAILED, MISUSED, did_you_mean, fail
from quartet.extras import needs

with needs("adopt"):
    import numpy as np

    from quartet.adopt.asking import ask_command
    from quartet.adopt.base import AdoptTask
    from quartet.adopt.graph import CannotAdopt, Loaded, Value, inputs_of, load, outputs_of
    from quartet.adopt.plain import PLAIN
    from quartet.adopt.version import Published, check_name, publish
    from service.inference.cards import NAME_PATTERN

# A task registers its options here.
TASKS: Mapping[str, AdoptTask] = {"tensors": PLAIN}
_DEFAULT = "tensors"
_RANGE = re.compile(r"(?P<name>.+)=(?P<low>[^:=]+):(?P<high>[^:=]+)")


def main(arguments: Sequence[str] | None = None, prog: str = "quartet") -> int:
    """Adopts a graph; returns 0 if it is published, 1 if it cannot be served, 2 for a wrong option."""
    given = list(arguments if arguments is not None else sys.argv[1:])
    options = read_options(given[1:] if given[:1] == ["adopt"] else given, prog)
    if not re.fullmatch(NAME_PATTERN, options.name):
        return fail(MISUSED, f"--name {options.name!r}: use letters, digits, dots, dashes and underscores.")
    command = shlex.join([prog, "adopt", *_without_folders(given)])
    try:
        adopt(options, command, report=print)
    except CannotAdopt as error:
        return fail(FAILED, str(error))
    except OSError as error:
        return fail(FAILED, f"{error.filename}: {error.strerror}")
    return 0


def adopt(options: argparse.Namespace, command: str, report: Callable[[str], None]) -> Published:
    """Publishes a version.

    Args:
        options: as `read_options` gives them.
        command: that the manifest states.
        report: takes the lines that the command prints.

    Raises:
        CannotAdopt: the graph cannot be served; nothing is left behind.
    """
    task = TASKS[options.task]
    check_name(options.models, options.name, options.task)
    loaded = load(options.file)
    _check_ranges(options.ranges, inputs_of(loaded.model))
    for line in _describe(loaded):
        report(line)
    proposal = task.propose(loaded, options)
    published = publish(proposal, options.models, options.name, most=options.max_batch, command=command)
    for line in _describe_published(published, proposal.call):
        report(line)
    return published


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
    parser.add_argument("--task", nargs="?", default=_DEFAULT)
    task = parser.parse_known_args(list(arguments))[0].task
    return task if task in TASKS else _DEFAULT


def make_parser(prog: str, task: str = _DEFAULT) -> argparse.ArgumentParser:
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
        "--task",
        choices=TASKS,
        default=_DEFAULT,
        help="; ".join(f"{name}: {each.summary}" for name, each in TASKS.items()) + f" (default: {_DEFAULT})",
    )
    parser.add_argument(
        "--samples", type=Path, metavar="FILE", help="npz with an array for each input (default: random values)"
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
    TASKS[task].add_options(parser)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _range(text: str) -> tuple[str, tuple[float, float]]:
    found = _RANGE.fullmatch(text)
    try:
        if found and (low := float(found["low"])) <= (high := float(found["high"])) and np.isfinite([low, high]).all():
            return found["name"], (low, high)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LOW:HIGH, such as ids=0:999")


def _check_ranges(ranges: Mapping[str, tuple[float, float]], inputs: Sequence[Value]) -> None:
    known = {value.name: value for value in inputs}
    for name in ranges:
        if name not in known:
            raise CannotAdopt("range", f"--range: the graph has no input {name!r}{did_you_mean(name, known, 'it has')}")
        if known[name].dtype in ("str", "bool"):
            raise CannotAdopt("range", f"--range: the input {name!r} is {known[name].dtype}, which has no range.")


def _without_folders(arguments: Sequence[str]) -> list[str]:
    """The options as a manifest states them: without the folders of this machine."""
    given = arguments[1:] if arguments[:1] == ["adopt"] else arguments
    return [Path(each).name if "/" in each else each for each in given]


def _describe(loaded: Loaded) -> Iterator[str]:
    source = loaded.source
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in source.opsets.items())
    yield f"{source.file}: {source.size / 1e6:.3g} MB, from {source.producer or 'an unnamed exporter'}, opset {opsets}"
    for what, values in (("input", inputs_of(loaded.model)), ("output", outputs_of(loaded.model))):
        for name, dtype, shape in values:
            sizes = "unknown" if shape is None else f"[{', '.join(str(size) or '?' for size in shape)}]"
            yield f"  {what} {name}: {dtype} {sizes}"


def _describe_published(published: Published, call: str | None) -> Iterator[str]:
    manifest = published.manifest
    if card := manifest.adopted:
        yield from (f"changed: {change}" for change in card.changes)
        yield f"samples: {card.samples}"
        yield f"batches: {card.batching}"
    for name, (least, greatest) in getattr(manifest, "ranges", {}).items():
        yield f"values of {name}: {least:g} to {greatest:g}"
    yield f"published {published.folder}"
    if asked := call or ask_command(published.folder, manifest.name):
        yield "Serve it with `quartet serve`, and ask it:"
        yield asked
