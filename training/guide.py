"""quartet train DATA and quartet inspect DATA: from a data set to the recipe that suits it."""

import sys
from argparse import ArgumentParser

from training.command_line import DataCommand, data_options, options_in, recipe_options
from training.data.dataset import DataError
from training.data.recognise import Recognised, recognise
from training.options import Options
from training.registry import RECIPES

# Options that only texts have, and that their data may need to be recognised.
TEXT_COLUMNS = ("--text-column", "--label-column")


def options_for(name: str, command: DataCommand) -> tuple[str, Options]:
    """The recipe for a data set and its options; prints which recipe that is, and why.

    Args:
        name: `train` or `inspect`.
        command: what was typed.

    Raises:
        DataError: the data cannot be used, or does not say which column is to be predicted.
        ValueError: an option is for another task than the data.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--target")
    parser.add_argument("--encoding")
    columns, _ = parser.parse_known_args(command.rest)
    found = Recognised(command.task, "so you say") if command.task else None
    named = [option for option in TEXT_COLUMNS if option in options_in(command.rest)]
    if found is None and named:
        found = Recognised("text", f"texts, as {named[0]} says")
    if found is None or (found.task == "tabular" and columns.target is None):
        recognised = recognise(command.data, target=columns.target, encoding=columns.encoding)
        if found is None or recognised.task == found.task:
            found = recognised
    task = found.task
    if not command.task:
        print(f"task: {task} ({RECIPES[task].about}), since it holds {found.because}; --task overrides this")
    if not found.sure:
        target = found.options["target"]
        print(f"target: {target!r} is a guess; --target COLUMN says which column to predict")
        if name == "train" and not command.yes and not sys.stdin.isatty():  # nobody could object
            raise DataError(
                f"{command.data}: say which column to predict with --target, or accept {target!r} with --yes."
            )
    for option in options_in(command.rest):
        if option not in data_options(task):
            others = ", ".join(sorted(each for each in RECIPES if option in data_options(each)))
            raise ValueError(f"{option} is for {others}, and this data for {task}: leave it out, or name the --task")
    recognised_options = [f"--{key.replace('_', '-')}={value}" for key, value in found.options.items()]
    if name == "inspect":
        recognised_options.append("--bad=drop")  # to show the usable items too
    if command.yes:
        recognised_options.append("--yes")
    # What is typed comes last, and wins.
    arguments = [*recognised_options, *command.rest]
    return task, recipe_options(task, arguments, f"quartet {name} DATA", data=command.data)
