"""quartet adopt: serves a model that was trained elsewhere."""

import argparse
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from quartet.console import FAILED, MISUSED, did_you_mean, fail
from quartet.extras import needs

with needs("adopt"):
    import numpy as np

    from quartet.adopt.asking import ask_command
    from quartet.adopt.base import AdoptTask
    from quartet.adopt.graph import CannotAdopt, Loaded, Value, inputs_of, load, outputs_of
    from quartet.adopt.plain import PLAIN
    from quartet.adopt.version import Published, publish
    from service.inference.cards import NAME_PATTERN
    from service.tasks.registry import BUILT_IN

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
    task = TASKS[options.task]
    command = shlex.join([prog, "adopt", options.file.name, *_without_folders(given, options.file)])
    try:
        loaded = load(options.file)
        _check_ranges(options.ranges, inputs_of(loaded.model))
        _print_found(loaded)
        proposal = task.propose(loaded, options)
        published = publish(
            proposal, options.models, options.name, most=options.max_batch, command=command, kinds=BUILT_IN.kinds
        )
    except CannotAdopt as error:
        return fail(FAILED, str(error))
    except OSError as error:
        return fail(FAILED, f"{error.filename}: {error.strerror}")
    _print_published(published, proposal.call)
    return 0


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
    parser.add_argument("--models", type=Path, default=Path("models"), metavar="FOLDER", help="(default: models)")
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
        "--max-batch", type=_positive, default=64, metavar="N", help="the largest batch to check (default: 64)"
    )
    parser.add_argument(
        "--max-length",
        type=_positive,
        default=2048,
        metavar="N",
        help="the largest size of an open axis (default: 2048)",
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


def _without_folders(arguments: Sequence[str], file: Path) -> list[str]:
    """The options as a manifest states them: without the paths of this machine."""
    given = [each for each in arguments if each not in ("adopt", str(file))]
    return [Path(each).name if "/" in each else each for each in given]


def _print_found(loaded: Loaded) -> None:
    source = loaded.source
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in source.opsets.items())
    print(f"{source.file}: {source.size / 1e6:.3g} MB, from {source.producer or 'an unnamed exporter'}, opset {opsets}")
    for what, values in (("input", inputs_of(loaded.model)), ("output", outputs_of(loaded.model))):
        for name, dtype, shape in values:
            sizes = "unknown" if shape is None else f"[{', '.join(str(size) for size in shape)}]"
            print(f"  {what} {name}: {dtype} {sizes}")


def _print_published(published: Published, call: str | None) -> None:
    manifest = published.manifest
    if card := manifest.adopted:
        for change in card.changes:
            print(f"changed: {change}")
        print(f"samples: {card.samples}")
        print(f"batches: {card.batching}")
    print(f"published {published.folder}")
    if asked := call or ask_command(published.folder, manifest.name):
        print("Serve it with `quartet serve`, and ask it:")
        print(asked)
