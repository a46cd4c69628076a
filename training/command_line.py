"""The command lines of trainings and of what is done with published models; nothing here takes long to import."""

import dataclasses
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training import published_options, registry
from training.options import Options
from training.parser import current_names, did_you_mean, fail, option_names, parse
from training.registry import RECIPES

# What there is to do with a published model or a finished run, and the options of each.
PUBLISHED: dict[str, type[Any]] = {
    "card": published_options.CardOptions,
    "evaluate": published_options.EvaluateOptions,
    "ood": published_options.OodOptions,
    "publish": published_options.PublishRunOptions,
    "quantize": published_options.QuantizeOptions,
}
# Accepted for one version.
_RENAMED = {"familiarize": "ood"}
_USAGE = {
    "train": "Trains a network on your data and exports it for the service: recognises the task, says what it found, "
    "estimates the time, and asks before it goes on.",
    "inspect": "Says what a data set is for and what is in it, and draws a sheet of samples; trains nothing.",
}
_DATA_HELP = """usage: quartet {name} DATA [--task TASK] {more}[OPTION …]

{about}

DATA is a folder, an archive, a file, a URL or a hub id. Its task is recognised by its contents, unless --task names it:

{tasks}
{yes}
`quartet {name} --task TASK --help` shows the options of a task."""


@dataclass(frozen=True, slots=True)
class DataCommand:
    """`quartet train DATA` or `quartet inspect DATA`, as far as it can be read before the data is looked at.

    Attributes:
        data: what to train on.
        task: that the user named; None to recognise it.
        yes: whether to go on without asking.
        rest: further options, of the recipe.
    """

    data: str
    task: str | None
    yes: bool
    rest: list[str]


def read_command(arguments: Sequence[str], prog: str) -> tuple[str, Any]:
    """Reads `python -m training COMMAND …`, which is a recipe or something to do with a published model.

    Args:
        arguments: the command and its options.
        prog: what is typed before them.

    Returns:
        The command and its options.
    """
    name, *rest = arguments or [""]
    name = _RENAMED.get(name, name)
    if name in ("-h", "--help"):
        about = {each: entry.about for each, entry in RECIPES.items()}
        about |= {each: (kind.__doc__ or "").partition("\n")[0] for each, kind in PUBLISHED.items()}
        print(f"usage: {prog} COMMAND …\n\nTrains a model and exports it for the service.\n\n{_listed(about)}")
        print(f"\n`{prog} COMMAND --help` shows the options of a command.")
        sys.exit(0)
    commands = (*RECIPES, *PUBLISHED)
    if name not in commands:
        hint = did_you_mean(name, commands) or f": name one of {', '.join(commands)}"
        fail(prog, f"there is no command {name!r}{hint}" if name else f"no command is given{hint}")
    if name in RECIPES:
        return name, _recipe_options(name, rest, f"{prog} {name}")
    return name, parse(PUBLISHED[name], rest, f"{prog} {name}")


def read_data_command(name: str, arguments: Sequence[str]) -> DataCommand:
    """Reads `quartet train` or `quartet inspect`; options that no recipe has end the program at once.

    Args:
        name: of the command.
        arguments: after its name.
    """
    prog, given = f"quartet {name}", current_names(arguments)
    first = ArgumentParser(prog=prog, add_help=False, allow_abbrev=False)
    first.add_argument("--task")
    if name == "train":
        first.add_argument("--yes", action="store_true")
    first.add_argument("-h", "--help", action="store_true")
    # What follows an option of a recipe may be its value, so DATA comes first.
    data, *options = given if given and not given[0].startswith("-") else ["", *given]
    known, rest = first.parse_known_args(options)
    task = known.task
    if task is not None and task not in RECIPES:
        fail(prog, f"there is no task {task!r}{did_you_mean(task, RECIPES)}")
    if known.help:
        if task:
            recipe_options(task, "", ["--help"], prog)
        print(_data_help(name))
        sys.exit(0)
    if not data:
        fail(prog, "DATA comes first: a folder, a file, a URL or a hub id")
    tasks = [task] if task else list(RECIPES)
    options_of_tasks = {option for each in tasks for option in data_options(each)}
    for option in _options_in(rest):
        if option not in options_of_tasks:
            of = f"the task {task}" if task else "any task"
            fail(prog, f"{option} is no option of {of}{did_you_mean(option, options_of_tasks)}")
    if task:  # so that wrong values are refused at once
        recipe_options(task, data, rest, prog)
    return DataCommand(data, task, getattr(known, "yes", False), rest)


def recipe_options(task: str, data: str, arguments: Sequence[str], prog: str) -> Options:
    """The options of a recipe whose data has been named already.

    Args:
        task: of the recipe.
        data: what to train on.
        arguments: the other options.
        prog: `quartet train` or `quartet inspect`.
    """
    return _recipe_options(task, arguments, f"{prog} DATA", data=data)


def data_options(task: str) -> set[str]:
    """The options of a recipe beside the data."""
    return option_names(registry.options_type(task)) - {"--data"}


def check_options(task: str, arguments: Sequence[str]) -> None:
    """Refuses options of other tasks than the one that a data set was recognised for.

    Args:
        task: that it is for.
        arguments: options and values, each of which some recipe has.

    Raises:
        ValueError: names the tasks that an option is for.
    """
    own = data_options(task)
    for option in _options_in(arguments):
        if option not in own:
            others = ", ".join(sorted(each for each in RECIPES if option in data_options(each)))
            raise ValueError(f"{option} is for {others}, and this data for {task}: leave it out, or name the --task")


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option among others, if it is given."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value")
    value: str | None = parser.parse_known_args(arguments)[0].value
    return value


def _recipe_options(task: str, arguments: Sequence[str], prog: str, **known: object) -> Options:
    kind = registry.options_type(task)
    options = parse(kind, arguments, prog, f"Trains on {RECIPES[task].about}.{_defaults(kind)}", **known)
    try:
        options.check()
    except ValueError as error:
        fail(prog, str(error))
    return options


def _defaults(kind: type[Options]) -> str:
    """How a recipe trains by default, which may depend on the architecture."""
    defaults = getattr(sys.modules[kind.__module__], "DEFAULTS", {})
    by_network = defaults if isinstance(defaults, dict) else {"": defaults}
    known, lines = option_names(kind), []
    for network, settings in by_network.items():
        given = {f"--{name.replace('_', '-')}": value for name, value in dataclasses.asdict(settings).items()}
        words = " ".join(
            f"{option} {given[option]}" for option in given if option in known and given[option] is not None
        )
        lines.append(f"\n\nTraining of {network or 'the network'} by default: {words}.")
    return "".join(lines)


def _options_in(arguments: Sequence[str]) -> list[str]:
    return [name for name in (each.partition("=")[0] for each in arguments) if name.startswith("--")]


def _data_help(name: str) -> str:
    yes = "\n--yes goes on without asking; otherwise the command asks where it runs on a terminal.\n"
    return _DATA_HELP.format(
        name=name,
        about=_USAGE[name],
        tasks=_listed({each: entry.about for each, entry in RECIPES.items()}),
        more="[--yes] " if name == "train" else "",
        yes=yes if name == "train" else "",
    )


def _listed(about: dict[str, str]) -> str:
    width = max(map(len, about))
    return "\n".join(f"  {name:<{width}}  {words}" for name, words in about.items())
