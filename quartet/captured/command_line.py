"""quartet captured: lists, exports and deletes what a server has kept of its requests."""

import argparse
import os
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from quartet.console import FAILED, MISUSED, fail
from quartet.extras import needs
from quartet.offline.printing import add_format

if TYPE_CHECKING:
    from service.capture.database import Selection

_Actions: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
LAYOUTS = ("folders", "parquet", "coco", "csv", "jsonl", "label-studio")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}


def main(arguments: Sequence[str] | None = None, prog: str = "quartet") -> int:
    """Runs the command.

    Args:
        arguments: the command line, from `captured` on; None for that of the process.
        prog: the program's name in help and usage messages.

    Returns:
        0; 1 if the captures cannot be used, or nothing is exported; 2 for a wrong option.
    """
    options = make_parser(prog).parse_args(arguments)
    with needs("server"):
        from quartet.captured import actions
        from service.capture.database import Unusable
    where = selection(options, options.model)
    if options.action == "delete" and not options.all and where == type(where)():
        return fail(MISUSED, "say what to delete: a model, --request, …; or everything with --all.")
    try:
        done: int = getattr(actions, f"{options.action}_items")(options, where)
        return done
    except Unusable as error:
        return fail(FAILED, f"{error}.")
    except OSError as error:
        return fail(FAILED, f"{error.filename or options.folder}: {error.strerror}.")


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(prog=prog, description="Manages what a server has kept of its requests.")
    captured = parser.add_subparsers(metavar="COMMAND", required=True).add_parser(
        "captured",
        description="Lists, exports and deletes the inputs and answers that a server has kept, as [capture] in "
        "serving.toml of a model asks for. The server may be running.",
    )
    actions = captured.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    shown = _add(actions, "list", "list the models with captures, or the items of one")
    shown.add_argument("model", metavar="MODEL", nargs="?", help="list its items (default: a line per model)")
    add_format(shown, ("table", "json", "jsonl"))
    export = _add(actions, "export", "write the items of a model in a layout that training or Label Studio reads")
    export.add_argument("model", metavar="MODEL", help="whose items are written")
    export.add_argument(
        "output",
        metavar="OUT",
        type=Path,
        help="a folder, which must be new or empty; or for csv, jsonl and label-studio a new file",
    )
    export.add_argument(
        "--layout", choices=LAYOUTS,
        help="class folders, parquet, or COCO for images; csv or jsonl for texts and rows; label-studio for all "
        "(default: folders, coco or csv, after the answers)",
    )  # fmt: skip
    export.add_argument(
        "--unchecked", action="store_true",
        help="also items without feedback, with the model's own answer for the truth (default: they are left out; "
        "label-studio always has them)",
    )  # fmt: skip
    delete = _add(actions, "delete", "delete items, and the feedback on their requests, from the disk")
    delete.add_argument("model", metavar="MODEL", nargs="?", help="delete only items of this model")
    delete.add_argument("--all", action="store_true", help="delete everything")
    return parser


def _add(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", default=Path(os.environ.get("QUARTET_CAPTURES") or "captures"),
        help="of the captures (default: QUARTET_CAPTURES, or captures)",
    )  # fmt: skip
    add_filters(parser)
    return parser


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `selection`."""
    parser.add_argument("--version", metavar="NUMBER", help="only items that this version has answered")
    parser.add_argument("--request", metavar="ID", help="only items of this request, as X-Request-ID of its answer")
    parser.add_argument("--strategy", metavar="NAME", help="only items that this strategy kept: random, untypical, …")
    parser.add_argument(
        "--since", type=_time, metavar="TIME", help="only from then on: 2h or 7d ago, or a date (2027-01-31)"
    )
    parser.add_argument("--until", type=_time, metavar="TIME", help="only before then, written in the same way")


def selection(options: argparse.Namespace, model: str | None) -> "Selection":
    """The items of a model that the options mean."""
    from service.capture.database import Selection

    return Selection(model, options.version, options.request, options.strategy, options.since, options.until)


def _time(text: str) -> float:
    """A Unix time: so long ago, or a date."""
    if found := re.fullmatch(r"(\d{1,5})([mhd])", text):
        return time.time() - int(found[1]) * _SECONDS[found[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 2h, 7d or 2027-01-31") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
