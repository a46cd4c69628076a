"""The command line of the service: a parser for each command, of nothing that takes long to import."""

import argparse
from pathlib import Path
from typing import TypeAlias

from quartet.extras import needs


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


_Commands: TypeAlias = "argparse._SubParsersAction[_CommandParser]"


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of all commands; `command` is the module of the one that is given.

    Args:
        prog: what is typed before the command.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serves the models in a folder over HTTP.",
        epilog=f"Settings are environment variables, QUARTET_…: `{prog} serve --help` lists them.",
    )
    parser.set_defaults(command="serve", workers=None, models_folder=None, port=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_CommandParser)
    _add_serve(commands)
    _add_models(commands)
    _add_predict(commands)
    _add_score(commands)
    _add_doctor(commands)
    _add_tune(commands)
    return parser


def _add_command(commands: _Commands, name: str, words: str, more: str = "") -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.{more}")
    parser.set_defaults(command=name)
    parser.add_argument(
        "--models", dest="models_folder", metavar="FOLDER", help="the models: QUARTET_MODELS=FOLDER (default: models)"
    )
    return parser


def _add_serve(commands: _Commands) -> None:
    parser = _add_command(commands, "serve", "run the server until SIGTERM or SIGINT (the default)")
    parser.add_argument("--port", metavar="N", help="to listen on: QUARTET_PORT=N (default: 8000)")
    parser.add_argument(
        "--workers",
        metavar="N",
        help="processes that share the port, the cores and the memory: QUARTET_WORKERS=N (default: 1)",
    )


def _add_models(commands: _Commands) -> None:
    parser = _add_command(commands, "models", "list the models in a folder, their tasks and test figures")
    parser.add_argument("names", nargs="*", metavar="MODEL", help="list these alone, with all their versions")
    parser.add_argument("--json", action="store_true", help="write JSON lines instead of a table")


def _add_predict(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "predict",
        "a model's answers for files, without a server",
        " The answers are those of the service. For more than a few thousand items there is `score`. Exit code 1: an "
        "item could not be answered.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="NAME, NAME/VERSION, or the folder of a version, such as models/detector/1"
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", type=Path,
        help="images, texts (.txt), tables (.csv, .jsonl, .parquet), folders of images or texts, or - for a text that "
        "is typed or piped in",
    )  # fmt: skip
    _add_operation_options(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="write JSON lines instead of a table")
    how.add_argument(
        "--render", metavar="FOLDER", type=Path, help="write a picture of each answer into this folder: boxes, say"
    )


def _add_score(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "score",
        "write a model's answers for a folder of images or a file of any size into a file",
        " What has been scored is kept in OUTPUT.parts: if the work is cut short, the same command goes on from there. "
        "Items that cannot be scored have the reason in the column `error`.",
    )
    parser.add_argument("model", metavar="MODEL", help="NAME or NAME/VERSION")
    parser.add_argument(
        "input", metavar="INPUT", type=Path, help="a folder of images, or a .parquet, .csv or .jsonl file"
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="a .parquet or .jsonl file, in the input's order")
    _add_operation_options(parser)
    parser.add_argument(
        "--ray", metavar="ADDRESS", nargs="?", const="local",
        help="score on a Ray cluster, by default on this machine; all files are on storage that its nodes share",
    )  # fmt: skip


def _add_operation_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--operation", metavar="NAME", help="what the model does, as in POST /v1/NAME (default: its task's first)"
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="the column of the images, their paths, or the texts (default: image, path, text)",
    )
    parser.add_argument(
        "-o", "--option", metavar="NAME=VALUE", type=_option, action="append", default=[],
        help="an option of the operation, as in its query: -o top_k=1",
    )  # fmt: skip


def _add_doctor(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "doctor",
        "say what this machine is, what can serve on it and how fast, and what to install or set",
        " Exit code 1: what the settings ask for cannot serve.",
    )
    parser.add_argument("names", nargs="*", metavar="MODEL", help="examine these models alone")
    parser.add_argument(
        "--seconds", type=_seconds, default=0.5, help="how long to measure each graph (default: %(default)s)"
    )


def _add_tune(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "tune",
        "measure every graph on this machine, and keep the best settings in a file that the server reads",
        " Nothing else should run meanwhile.",
    )
    parser.add_argument("names", nargs="*", metavar="MODEL", help="measure these models alone")
    parser.add_argument(
        "--seconds", type=_seconds, default=0.5, help="how long to measure each setting (default: %(default)s)"
    )
    parser.add_argument(
        "--p99-ms",
        type=_milliseconds,
        default=100.0,
        help="the most milliseconds that 99 of 100 items may take under load, waiting included (default: %(default)s)",
    )


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


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
