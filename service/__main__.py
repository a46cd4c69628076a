"""python -m service: serves, or does what another command says.

Options are read before anything else is imported, so that help and mistakes are answered at once.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quartet.extras import needs

if TYPE_CHECKING:
    from service.tasks.registry import Registry


def main(registry: "Registry | None" = None, arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        registry: the tasks that are served, the built-in ones by default; with further ones, a module of your own is
            the service.
        arguments: of the command line; None for those of the process.

    Returns:
        The exit code; what it means is in the command's module.
    """
    options = _parser().parse_args(arguments)
    with needs("server"):
        command = importlib.import_module(f"service.commands.{options.command}")
        if registry is None:
            from service.tasks.registry import BUILT_IN

            registry = BUILT_IN
    code: int = command.run(registry, options)
    return code


class _CommandParser(argparse.ArgumentParser):
    """Lists the settings in its help; importing them takes longer than all else."""

    def format_help(self) -> str:
        with needs("server"):
            from service.settings import PREFIX, Settings

        width = max(map(len, Settings.model_fields)) + len(PREFIX)
        lines = [
            f"  {PREFIX + name.upper():<{width}}  {field.description} (default: {field.default})"
            for name, field in Settings.model_fields.items()
        ]
        return super().format_help() + "\nsettings, all of them environment variables:\n" + "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serves the models in a folder over HTTP.",
        epilog="Settings are environment variables, QUARTET_…: `python -m service serve --help` lists them.",
    )
    parser.set_defaults(command="serve", workers=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_CommandParser)
    serve = "run the server until SIGTERM or SIGINT (the default)"
    serve_parser = commands.add_parser("serve", help=serve, description=serve)
    serve_parser.set_defaults(command="serve")
    serve_parser.add_argument(
        "--workers", metavar="N", help="processes that share the port, the cores and the memory: QUARTET_WORKERS=N"
    )
    doctor = "say what this machine is, what can serve on it and how fast, and what to install or set"
    examine = commands.add_parser(
        "doctor",
        help=doctor,
        description=f"{doctor}. Exit code 1: what the settings ask for cannot serve.",
    )
    examine.add_argument("models", nargs="*", metavar="MODEL", help="examine these models alone")
    examine.add_argument(
        "--seconds", type=_seconds, default=0.5, help="how long to measure each graph (default: %(default)s)"
    )
    examine.set_defaults(command="doctor")
    tune = "measure every graph on this machine, and keep the best settings in a file that the server reads"
    measure = commands.add_parser(
        "tune",
        help=tune,
        description=f"{tune}. Nothing else should run meanwhile.",
    )
    measure.set_defaults(command="tune")
    measure.add_argument("models", nargs="*", metavar="MODEL", help="measure these models alone")
    measure.add_argument(
        "--seconds", type=_seconds, default=0.5, help="how long to measure each setting (default: %(default)s)"
    )
    measure.add_argument(
        "--p99-ms",
        type=_milliseconds,
        default=100.0,
        help="the most milliseconds that 99 of 100 items may take under load, waiting included (default: %(default)s)",
    )
    _add_score(commands)
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 3600:  # NaN is neither
        raise argparse.ArgumentTypeError("must be between 0 and 3600")
    return seconds


def _milliseconds(text: str) -> float:
    milliseconds = float(text)
    if not 0 < milliseconds <= 3_600_000:
        raise argparse.ArgumentTypeError("must be above 0 and at most 3600000")
    return milliseconds


def _add_score(commands: "argparse._SubParsersAction[_CommandParser]") -> None:
    score = "a model's answers for a folder of images or a file of any size, into a file"
    parser = commands.add_parser(
        "score",
        help=score,
        description=f"Writes {score}. What has been scored is kept in OUTPUT.parts: if the work is cut short, the same "
        "command goes on from there. Items that cannot be scored have the reason in the column `error`.",
    )
    parser.set_defaults(command="score")
    parser.add_argument("model", metavar="MODEL", help="NAME or NAME/VERSION, in the folder QUARTET_MODELS")
    parser.add_argument(
        "input", metavar="INPUT", type=Path, help="a folder of images, or a .parquet, .csv or .jsonl file"
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="a .parquet or .jsonl file, in the input's order")
    parser.add_argument("--operation", metavar="NAME", help="what the model does, as in POST /v1/NAME")
    parser.add_argument("--column", metavar="NAME", help="the column of the images, their paths, or the texts")
    parser.add_argument(
        "-o", "--option", metavar="NAME=VALUE", type=_option, action="append", default=[],
        help="an option of the operation, as in its query: -o top_k=1",
    )  # fmt: skip
    parser.add_argument(
        "--ray", metavar="ADDRESS", nargs="?", const="local",
        help="score on a Ray cluster, by default on this machine; all files are on storage that its nodes share",
    )  # fmt: skip


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
