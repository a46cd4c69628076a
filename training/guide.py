"""quartet train DATA and quartet inspect DATA: from a data set to the recipe that suits it."""

import sys
from argparse import Namespace

from training.command_line import RECIPES, DataCommand, check_options, recipe_parser, value_of
from training.data.dataset import DataError
from training.data.recognise import Recognised, recognise


def arguments_for(name: str, command: DataCommand) -> Namespace:
    """The arguments of the recipe for a data set; says which one that is, and why.

    Args:
        name: of the command, `train` or `inspect`.
        command: what was typed.

    Raises:
        DataError: the data cannot be used, or does not say which column is to be predicted.
        ValueError: an option is for another task than the data.
    """
    target, encoding = value_of("--target", command.rest), value_of("--encoding", command.rest)
    found = Recognised(command.task, "so you say") if command.task else None
    if found is None or (found.task == "tabular" and target is None):
        recognised = recognise(command.data, target=target, encoding=encoding)
        if found is None or recognised.task == found.task:
            found = recognised
    if not command.task:
        print(f"task: {found.task} ({RECIPES[found.task]}), since it holds {found.because}; --task says otherwise")
    options = [f"--{key.replace('_', '-')}={value}" for key, value in found.options.items()]
    if not found.sure:
        _check_guess(name, command, found)
    check_options(found.task, command.rest)
    parser = recipe_parser(found.task, f"quartet {name} DATA")
    # What is typed comes last, and wins.
    arguments = parser.parse_args([f"--data={command.data}", *options, *command.rest])
    arguments.inspect = name == "inspect"
    if arguments.inspect and value_of("--bad", command.rest) is None:
        arguments.bad = "drop"  # whoever looks wants to see the rest too
    arguments.ask = name == "train" and not command.yes and sys.stdin.isatty() and sys.stdout.isatty()
    return arguments


def _check_guess(name: str, command: DataCommand, found: Recognised) -> None:
    """Says that a column was guessed; a training that nobody watches does not go on with a guess."""
    target = found.options["target"]
    print(f"target: {target!r} is a guess; --target COLUMN says which column to predict")
    if name == "train" and not command.yes and not sys.stdin.isatty():
        raise DataError(f"{command.data}: say which column to predict with --target, or accept {target!r} with --yes.")
