"""The command lines of trainings, of nothing that takes long to import: a parser for each recipe, and quartet train."""

import importlib
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass

from training.published_options import (
    add_card_options,
    add_evaluate_options,
    add_familiarize_options,
    add_quantize_options,
)

RECIPES = {
    "classification": "images of classes",
    "detection": "images with boxes",
    "autoencoder": "images alone, to encode and to generate",
    "text": "texts of classes",
    "tabular": "a table with a column to predict",
}
# What there is to do with a published model: a module each, and here its options.
PUBLISHED = {
    "card": ("render again what the card of a published model takes from its manifest", add_card_options),
    "evaluate": ("measure a published model anew, and write its report", add_evaluate_options),
    "ood": ("add an out-of-distribution score to a published model", add_familiarize_options),
    "quantize": (
        "add variants to a published model: smaller or faster graphs that are good enough",
        add_quantize_options,
    ),
}
_ABOUT_DATA = (
    "DATA is a folder, an archive, a file, a URL or a hub id: class folders of images, images with boxes (COCO, YOLO, "
    "Pascal VOC, LabelMe, a table), images alone, texts with labels, or a table. Which task it is for is recognised "
    "from what is in it."
)


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


def recipe_parser(task: str, prog: str) -> ArgumentParser:
    """The parser of a recipe whose data has been named already.

    Args:
        task: of the recipe.
        prog: what is typed before the options.
    """
    parser = ArgumentParser(prog=prog, description=f"Trains on {RECIPES[task]}.", allow_abbrev=False)
    _add_recipe(parser, task)
    (data,) = (action for action in parser._actions if action.dest == "data")
    data.help = SUPPRESS
    return parser


def training_parser(prog: str) -> ArgumentParser:
    """The parser of `python -m training`: a command for each recipe, and for what is done with published models.

    Args:
        prog: what is typed before the command.
    """
    parser = ArgumentParser(prog=prog, description="Trains a model and exports it for the service.")
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    for task, words in RECIPES.items():
        _add_recipe(tasks.add_parser(task, help=words, description=f"Trains on {words}."), task)
    for name, (words, add_options) in PUBLISHED.items():
        add_options(tasks.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}."))
    return parser


def _add_recipe(parser: ArgumentParser, task: str) -> None:
    importlib.import_module(f"training.{task}.options").add_arguments(parser)
    parser.set_defaults(task=task)


def read_data_command(name: str, arguments: Sequence[str]) -> DataCommand:
    """Reads `quartet train` or `quartet inspect`; options that no recipe has end the program at once.

    Args:
        name: of the command.
        arguments: after its name.
    """
    first = ArgumentParser(
        prog=f"quartet {name}",
        usage=f"quartet {name} DATA [--task TASK] [OPTION …]",
        description={
            "train": "Trains a network on your data and exports it for the service: recognises the task, says what "
            "it found, estimates the time, and asks before it goes on.",
            "inspect": "Says what a data set is for and what is in it, and draws a sheet of samples; trains nothing.",
        }[name],
        epilog=f"{_ABOUT_DATA} `quartet {name} --task TASK --help` shows the options of a task's recipe.",
        add_help=False,
        allow_abbrev=False,
    )
    first.add_argument("--task", choices=tuple(RECIPES), help="what to train (default: as the data says)")
    if name == "train":
        first.add_argument("--yes", action="store_true", help="go on without asking (default: ask, on a terminal)")
    first.add_argument("-h", "--help", action="store_true", help="show this, or with --task the options of its recipe")
    # What follows an option of a recipe may be its value, so DATA comes first.
    leading = bool(arguments) and not arguments[0].startswith("-")
    known, rest = first.parse_known_args(arguments[1:] if leading else arguments)
    if known.help:
        (recipe_parser(known.task, f"quartet {name} DATA") if known.task else first).print_help()
        sys.exit(0)
    if not leading:
        first.error("DATA comes first: a folder, a file, a URL or a hub id")
    for option in (each.partition("=")[0] for each in rest):
        if option.startswith("--") and option not in _options(known.task):
            first.error(
                f"{option} is no option of {f'the task {known.task}' if known.task else 'any task'}: "
                f"`quartet {name} --task TASK --help` lists them"
            )
    return DataCommand(arguments[0], known.task, bool(getattr(known, "yes", False)), rest)


def _options(task: str | None) -> set[str]:
    """The options of a recipe, or of any."""
    tasks = [task] if task else list(RECIPES)
    return {option for each in tasks for option in recipe_parser(each, "")._option_string_actions} - {"--data"}


def check_options(task: str, arguments: Sequence[str]) -> None:
    """Refuses options of other tasks than the one that a data set was recognised for.

    Args:
        task: that it is for.
        arguments: options and values, each of which some recipe has.

    Raises:
        ValueError: names the tasks that an option is for.
    """
    own = _options(task)
    for option in (each.partition("=")[0] for each in arguments):
        if option.startswith("--") and option not in own:
            others = ", ".join(each for each in RECIPES if option in _options(each))
            raise ValueError(f"{option} is for {others}, and this data for {task}: leave it out, or name the --task")


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option among others, if it is given."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value")
    value: str | None = parser.parse_known_args(arguments)[0].value
    return value


def check(arguments: Namespace) -> None:
    """Refuses options that would have no effect together.

    Raises:
        ValueError: names the option and what it is for.
    """
    if arguments.task in RECIPES:
        if (arguments.force or arguments.candidate) and not arguments.publish:
            option = "--force" if arguments.force else "--candidate"
            raise ValueError(f"{option} says how to publish: add --publish, or leave it out")
        module = importlib.import_module(f"training.{arguments.task}.options")
        if hasattr(module, "check_arguments"):
            module.check_arguments(arguments)
