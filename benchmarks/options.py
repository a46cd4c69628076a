"""The command-line options shared by the comparisons."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from benchmarks.results import add_json_option
from service.inference.versions import versions_in


def parse(module: str, description: str | None, rounds: int) -> Namespace:
    """Parses the options of a comparison that has none of its own; arguments as for `parser`."""
    return parser(module, description, rounds).parse_args()


def parser(module: str, description: str | None, rounds: int) -> ArgumentParser:
    """A parser with the options that all comparisons have.

    Args:
        module: the comparison's module, for the usage message.
        description: for the help.
        rounds: the default of `--rounds`.
    """
    shared = ArgumentParser(prog=f"python -m {module}", description=description)
    shared.add_argument("--models", type=Path, default=Path("models"))
    shared.add_argument("--rounds", type=int, default=rounds)
    shared.add_argument("--seconds", type=float, default=3, help="duration of each measurement")
    add_json_option(shared)
    return shared


def newest(models: Path, name: str) -> Path:
    """The folder of a model's highest version, which the service serves unless it refuses it."""
    return models / name / versions_in(models / name)[0]
