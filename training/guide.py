"""quartet train DATA and quartet inspect DATA: from a data set to the recipe that suits it."""

import sys

from training.command_line import DataCommand, check_options, recipe_options, value_of
from training.data.dataset import DataError
from training.data.recognise import Recognised, recognise
from training.options import Options
from training.registry import RECIPES


def options_for(name: str, command: DataCommand) -> tuple[str, Options]:
    """The recipe for a data set and its options; prints which recipe that is, and why.

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
        about = RECIPES[found.task].about
        print(f"task: {found.task} ({about}), since it holds {found.because}; --task overrides this")
    if not found.sure:
        _check_guess(name, command, found)
    check_options(found.task, command.rest)
    recognised_options = [f"--{key.replace('_', '-')}={value}" for key, value in found.options.items()]
    if name == "inspect":
        recognised_options.append("--bad=drop")  # to show the usable items too
    # What is typed comes last, and wins.
    return found.task, recipe_options(found.task, command.data, [*recognised_options, *command.rest], f"quartet {name}")


def asks(command: DataCommand) -> bool:
    """Whether there is somebody to ask before a training begins."""
    return not command.yes and sys.stdin.isatty() and sys.stdout.isatty()


def _check_guess(name: str, command: DataCommand, found: Recognised) -> None:
    """Says that a column was guessed; a training that nobody watches does not go on with a guess."""
    target = found.options["target"]
    print(f"target: {target!r} is a guess; --target COLUMN says which column to predict")
    if name == "train" and not command.yes and not sys.stdin.isatty():
        raise DataError(f"{command.data}: say which column to predict with --target, or accept {target!r} with --yes.")
