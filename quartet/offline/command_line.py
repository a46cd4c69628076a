"""The command line of the offline commands; parsing it imports nothing heavy."""

import argparse
import csv
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from quartet.completion import complete_models
from quartet.console import MISUSED, fail
from quartet.extras import needs
from quartet.offline.printing import add_format
from quartet.remote.command_line import VERBS
from quartet.remote.command_line import main as administer

if TYPE_CHECKING:
    from service.tasks.registry import Registry

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(registry: "Registry | None" = None, arguments: Sequence[str] | None = None, prog: str = "quartet") -> int:
    """Runs a command.

    Args:
        registry: the tasks of the models; None for the built-in ones.
        arguments: the command line; None for that of the process.
        prog: the program's name in help and usage messages.

    Returns:
        The command's exit code; 2 if a setting is invalid.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["models"] and given[1:2] and given[1] in VERBS:
        return administer(given, prog)
    options = make_parser(prog).parse_args(given)
    if _asks_server(options):
        remote = importlib.import_module(f"quartet.remote.{options.command}")
        answered: int = remote.run(options)
        return answered
    with needs("server"):
        from service.settings import InvalidSettings, read_settings

        command = importlib.import_module(f"quartet.offline.{options.command.replace('-', '_')}")
        if registry is None:
            from service.tasks.registry import BUILT_IN

            registry = BUILT_IN
    try:
        settings = read_settings(models=options.models)
    except InvalidSettings as error:
        return fail(MISUSED, str(error))
    code: int = command.run(registry, settings, options)
    return code


def _asks_server(options: argparse.Namespace) -> bool:
    """Whether a command asks a server: one that is named, or else that of QUARTET_URL, if no folder is named."""
    if "server" not in options or options.models:
        return False
    is_folder = options.command == "predict" and Path(options.model, "manifest.json").is_file()
    return bool(options.server or (os.environ.get("QUARTET_URL") and not is_folder))


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of all offline commands; it stores the command's name in `command`."""
    parser = argparse.ArgumentParser(prog=prog, description="Runs models without a server.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_models(commands)
    _add_predict(commands)
    _add_score(commands)
    _add_doctor(commands)
    _add_triton_repository(commands)
    return parser


def _add_command(
    commands: _Commands, name: str, summary: str, more: str = "", server: str = ""
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.{more}",
        epilog="Settings are environment variables, QUARTET_…: `quartet serve --help` lists them.",
    )
    parser.set_defaults(command=name)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--models", metavar="FOLDER", help="the models: QUARTET_MODELS=FOLDER (default: models)")
    if server:
        where.add_argument("--server", metavar="URL", help=f"{server} this server instead (default: QUARTET_URL)")
    return parser


def _add_models(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "models",
        "list the models in a folder, their tasks and test figures",
        f" With a verb before the name it administers a running server: {', '.join(VERBS)}. `quartet models VERB "
        "--help` shows the options of a verb.",
        server="list the models of",
    )
    names = parser.add_argument("names", nargs="*", metavar="MODEL", help="list only these, with all their versions")
    names.completer = lambda **_: [*VERBS, *complete_models()]  # type: ignore[attr-defined]
    add_format(parser)


def _add_predict(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "predict",
        "print a model's answers for files, without a server or from one",
        " For more than a few thousand items use `score`. An item that cannot be answered has the reason in the column "
        "`error`; the exit code is then 1.",
        server="ask",
    )
    model = parser.add_argument(
        "model", metavar="MODEL", help="NAME, NAME/VERSION, or the folder of a version, such as models/detector/1"
    )
    model.completer = complete_models  # type: ignore[attr-defined]
    parser.add_argument(
        "files", nargs="+", metavar="FILE", type=Path,
        help="images, texts (.txt), tables (.csv, .jsonl, .parquet), folders of images or texts, or - for an image, a "
        "text or a table from standard input",
    )  # fmt: skip
    _add_operation_options(parser)
    add_format(parser)
    parser.add_argument(
        "--render", metavar="FOLDER", type=Path, help="write a picture of each answer (boxes, say) into this folder"
    )


def _add_score(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "score",
        "write a model's answers for a folder of images or a file of any size into a file",
        " Finished parts are kept in OUTPUT.parts: after an interruption the same command resumes. Items that cannot "
        "be scored have the reason in the column `error`.",
    )
    model = parser.add_argument("model", metavar="MODEL", help="NAME or NAME/VERSION")
    model.completer = complete_models  # type: ignore[attr-defined]
    parser.add_argument(
        "input",
        metavar="INPUT",
        type=Path,
        help="a folder of images or .txt files, or a .csv, .tsv, .jsonl or .parquet file",
    )
    parser.add_argument(
        "output", metavar="OUTPUT", type=Path, help="a .csv, .tsv, .jsonl or .parquet file, in the input's order"
    )
    _add_operation_options(parser)
    parser.add_argument(
        "--keep", metavar="COLUMNS", type=_names,
        help="columns of the input to carry over into the output, with commas between; '' for none (default: all that "
        "the model does not read)",
    )  # fmt: skip
    parser.add_argument(
        "--ray", metavar="ADDRESS", nargs="?", const="local",
        help="score on a Ray cluster, by default on this machine; all files must be on storage that its nodes share",
    )  # fmt: skip


def _add_operation_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--operation", metavar="NAME", help="the operation, as in POST /v1/NAME (default: the task's first)"
    )
    parser.add_argument(
        "--column",
        metavar="NAME",
        help="the column of the images, their paths, or the texts (default: the one that the training found; image, "
        "path or text; or the only one that fits)",
    )
    parser.add_argument(
        "-o", "--option", metavar="NAME=VALUE", type=_option, action="append", default=[],
        help="an option of the operation, as in its query: -o top_k=1",
    )  # fmt: skip


def _add_doctor(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "doctor",
        "report what this machine is, what can serve on it and how fast, and what to install or set",
        " Exit code 1: the settings ask for something that cannot serve.",
    )
    names = parser.add_argument("names", nargs="*", metavar="MODEL", help="examine only these")
    names.completer = complete_models  # type: ignore[attr-defined]
    parser.add_argument(
        "--seconds", type=_seconds, default=0.5, help="how long to measure each graph (default: %(default)s)"
    )


def _add_triton_repository(commands: _Commands) -> None:
    parser = _add_command(
        commands,
        "triton-repository",
        "write the served models as a repository that Triton and KServe serve",
        " OUT/NAME/config.pbtxt describes a model, and OUT/NAME/VERSION/model.onnx is a copy of its graph.",
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="a folder, which must be new or empty")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 3600:  # also refuses NaN
        raise argparse.ArgumentTypeError("must be between 0 and 3600")
    return seconds


def _names(text: str) -> tuple[str, ...]:
    """Names with commas between; one with a comma is written in quotation marks."""
    return tuple(name.strip() for name in next(csv.reader([text], skipinitialspace=True), []))


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
