"""The command lines of trainings and of what is done with published models; nothing here takes long to import."""

import dataclasses
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training import published_options
from training.options import Options
from training.parser import current_names, did_you_mean, fail, option_names, parse
from training.registry import RECIPES, options_type

# What there is to do with a published model or a finished run, and the options of each.
PUBLISHED: dict[str, type[Any]] = {
    "card": published_options.CardOptions,
    "drift": published_options.DriftOptions,
    "evaluate": published_options.EvaluateOptions,
    "ood": published_options.OodOptions,
    "publish": published_options.PublishRunOptions,
    "quantize": published_options.QuantizeOptions,
}
# Accepted for one version.
_RENAMED = {"familiarize": "ood"}
_ABOUT_DATA = {
    "train": "Trains a network on your data and exports it for the service: recognises the task, says what it found, "
    "estimates the time, and asks before it goes on.",
    "inspect": "Says what a data set is for and what is in it, and draws a sheet of samples; trains nothing.",
}


@dataclass(frozen=True, slots=True)
class DataCommand:
    """`quartet train DATA` or `quartet inspect DATA`, as far as it can be read before the data is looked at.

    Attributes:
        task: that the user named; None to recognise it.
        yes: whether to go on without asking.
        rest: options of the recipe.
    """

    data: str
    task: str | None
    yes: bool
    rest: list[str]


def read_command(arguments: Sequence[str], prog: str) -> tuple[str, Any]:
    """The name and the options of `python -m training COMMAND …`: a recipe, or a command on a published model."""
    name, *rest = arguments or [""]
    name = _RENAMED.get(name, name)
    if name in ("-h", "--help"):
        about = {each: entry.about for each, entry in RECIPES.items()}
        about |= {each: (kind.__doc__ or "").partition("\n")[0] for each, kind in PUBLISHED.items()}
        print(f"usage: {prog} COMMAND …\n\nTrains a model and exports it for the service.\n\n{_listed(about)}")
        print(f"\n`{prog} COMMAND --help` shows the options of a command.")
        sys.exit(0)
    if name in RECIPES:
        return name, recipe_options(name, rest, f"{prog} {name}")
    if name not in PUBLISHED:
        commands = (*RECIPES, *PUBLISHED)
        hint = did_you_mean(name, commands) or f": name one of {', '.join(commands)}"
        fail(prog, f"there is no command {name!r}{hint}" if name else f"no command is given{hint}")
    return name, parse(PUBLISHED[name], rest, f"{prog} {name}")


def read_data_command(name: str, arguments: Sequence[str]) -> DataCommand:
    """Reads `quartet train` or `quartet inspect`; options that no recipe has end the program at once."""
    prog, given = f"quartet {name}", current_names(arguments)
    parser = ArgumentParser(
        usage=f"{prog} DATA [--task TASK] [OPTION …]",
        description=_ABOUT_DATA[name],
        epilog="tasks:\n" + _listed({each: entry.about for each, entry in RECIPES.items()}),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("data", metavar="DATA", nargs="?", help="a folder, an archive, a file, a URL or a hub id")
    parser.add_argument(
        "--task", help="recognised by the contents of DATA by default; with --help, shows the options of the task"
    )
    if name == "train":
        parser.add_argument("--yes", action="store_true", help="go on without asking, also on a terminal")
    parser.add_argument("-h", "--help", action="store_true")
    known, rest = parser.parse_known_args(given)
    task = known.task
    if task is not None and task not in RECIPES:
        fail(prog, f"there is no task {task!r}{did_you_mean(task, RECIPES)}")
    if known.help:
        if task:
            recipe_options(task, ["--help"], f"{prog} DATA", data="")
        parser.print_help()
        sys.exit(0)
    # What follows an option of a recipe may be its value.
    if not known.data or given[0] != known.data:
        fail(prog, "DATA comes first: a folder, a file, a URL or a hub id")
    names = {option for each in ([task] if task else RECIPES) for option in data_options(each)}
    if wrong := [option for option in options_in(rest) if option not in names]:
        fail(
            prog,
            f"{wrong[0]} is no option of {f'the task {task}' if task else 'any task'}{did_you_mean(wrong[0], names)}",
        )
    if task:  # so that wrong values are refused at once
        recipe_options(task, rest, f"{prog} DATA", data=known.data)
    return DataCommand(known.data, task, getattr(known, "yes", False), rest)


def recipe_options(task: str, arguments: Sequence[str], prog: str, **known: object) -> Options:
    """The options of a recipe; `known` are values of fields that are no options here."""
    kind = options_type(task)
    options = parse(kind, arguments, prog, f"Trains on {RECIPES[task].about}.{describe_defaults(kind)}", **known)
    try:
        options.check()
    except ValueError as error:
        fail(prog, str(error))
    return options


def data_options(task: str) -> set[str]:
    """The options of a recipe beside the data."""
    return option_names(options_type(task)) - {"--data"}


def options_in(arguments: Sequence[str]) -> list[str]:
    """The names of the options among `arguments`, without values."""
    return [each.partition("=")[0] for each in arguments if each.startswith("--")]


def describe_defaults(kind: type[Options]) -> str:
    """How a recipe trains by default: a paragraph for each of its networks, with the options that say the same."""
    defaults = getattr(sys.modules[kind.__module__], "DEFAULTS", {})
    by_network = defaults if isinstance(defaults, dict) else {"the network": defaults}
    known, text = option_names(kind), ""
    for network, settings in by_network.items():
        given = {f"--{name.replace('_', '-')}": value for name, value in dataclasses.asdict(settings).items()}
        words = [f"{option} {value}" for option, value in given.items() if option in known and value is not None]
        text += f"\n\nTraining of {network} by default: {' '.join(words)}."
    return text


def _listed(about: dict[str, str]) -> str:
    width = max(map(len, about))
    return "\n".join(f"  {name:<{width}}  {words}" for name, words in about.items())
