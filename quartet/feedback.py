"""quartet feedback: tells a server which of its answers were right, or what would have been."""

import argparse
import asyncio
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from quartet.console import FAILED, fail

# Entries of a request; the server takes bodies of 256 kB.
_MOST_ENTRIES, _MOST_BYTES = 500, 200_000
_FIELDS = ("request", "index", "right", "truth")
_WORDS = {"true": True, "yes": True, "1": True, "right": True, "false": False, "no": False, "0": False, "wrong": False}
# Refused entries that are shown.
_SHOWN = 10


class _Unusable(Exception):
    """A file cannot be read; the message names the line."""


def main(arguments: Sequence[str], prog: str = "quartet") -> int:
    """Runs the command.

    Args:
        arguments: the command line, from `feedback` on.
        prog: the program's name in help and usage messages.

    Returns:
        0; 1 if the file cannot be read, the server refuses or does not answer, or an entry does not count.
    """
    options = make_parser(prog).parse_args(arguments[1:])
    # The client takes its time to import; help and mistakes do not wait for it.
    from quartet.errors import QuartetError
    from quartet.remote.server import explain

    try:
        return asyncio.run(_send_file(options))
    except _Unusable as error:
        return fail(FAILED, f"{options.file}: {error}.")
    except OSError as error:
        return fail(FAILED, f"{options.file}: {error.strerror}.")
    except UnicodeDecodeError as error:
        return fail(FAILED, f"{options.file}: it is not UTF-8 ({error.reason} at byte {error.start}).")
    except QuartetError as error:
        return fail(FAILED, explain(error))


def make_parser(prog: str) -> argparse.ArgumentParser:
    """The parser of what follows the command."""
    parser = argparse.ArgumentParser(
        prog=f"{prog} feedback",
        description="Tells a running server which of its answers were right, or what would have been. The figures are "
        "at /v1/models/NAME/quality.",
        epilog="The key of a server that asks for one is QUARTET_API_KEY: the key that got the answers, or one with "
        "the scope admin.",
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path,
        help="CSV with a header, or JSON lines, with the columns request (X-Request-ID of an answer), index (of the "
        "item in the request; default: 0), and right (true or false) or truth (a label, a number, or a list of boxes)",
    )  # fmt: skip
    parser.add_argument(
        "--server", metavar="URL", help="of the server (default: QUARTET_URL, or port 8000 of this machine)"
    )
    return parser


async def _send_file(options: argparse.Namespace) -> int:
    from quartet.remote.server import connect

    states: Counter[str] = Counter()
    problems: list[str] = []
    async with connect(options.server) as connection:
        for entries in _requests(_entries(options.file)):
            results = await _send(connection, [entry for _, entry in entries])
            for (line, entry), result in zip(entries, results, strict=True):
                states[result["state"]] += 1
                if result["state"] == "invalid":
                    problems.append(f"line {line}: {result['problem']}")
                elif result["state"] == "unknown":
                    problems.append(f"line {line}: the server does not know an answer {entry['request']!r}")
    for problem in problems[:_SHOWN]:
        print(problem, file=sys.stderr)
    if len(problems) > _SHOWN:
        print(f"… and {len(problems) - _SHOWN} more", file=sys.stderr)
    waiting = f", {states['waiting']} wait for another process of the server" if states["waiting"] else ""
    print(f"{states['counted']} of {states.total()} count{waiting}.", file=sys.stderr)
    return FAILED if problems else 0


async def _send(connection: Any, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from quartet.calls import json_body

    async def receive(response: Any) -> Any:
        return json.loads(await response.aread())

    document = await connection.exchange("POST", "v1/feedback", receive, **json_body({"feedback": entries}))
    results: list[dict[str, Any]] = document["results"]
    return results


def _requests(entries: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """The entries in groups that fit into a request."""
    waiting = iter(entries)
    while group := list(islice(waiting, _MOST_ENTRIES)):
        part: list[tuple[int, dict[str, Any]]] = []
        size = 0
        for entry in group:
            more = len(json.dumps(entry[1]))
            if part and size + more > _MOST_BYTES:
                yield part
                part, size = [], 0
            part.append(entry)
            size += more
        yield part


def _entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The entries of a file with their lines, from 1."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = _csv_rows(file) if path.suffix.lower() in (".csv", ".tsv") else _json_rows(file)
        for line, row in rows:
            if unknown := row.keys() - set(_FIELDS):
                column = sorted(map(str, unknown))[0]
                raise _Unusable(f"line {line}: unknown column {column!r}; use {', '.join(_FIELDS)}")
            if not row.get("request"):
                raise _Unusable(f"line {line}: the request is missing")
            yield line, {name: value for name, value in row.items() if value is not None}


def _json_rows(file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise _Unusable(f"line {number}: it is no JSON ({error})") from None
        if not isinstance(row, dict):
            raise _Unusable(f"line {number}: it is no JSON object")
        yield number, row


def _csv_rows(file: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = iter(file)
    head = next(lines, "")
    delimiter = "\t" if "\t" in head else ";" if ";" in head else ","
    names = next(csv.reader([head], delimiter=delimiter), [])
    reader = csv.reader(lines, delimiter=delimiter)
    for cells in reader:
        if not cells:
            continue
        line = reader.line_num + 1
        if len(cells) != len(names):
            raise _Unusable(f"line {line}: it has {len(cells)} cells, and the header {len(names)}")
        row = {name.strip(): cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip()}
        yield line, {name: _cell(name, cell, line) for name, cell in row.items()}


def _cell(name: str, cell: str, line: int) -> Any:
    if name == "index":
        if not cell.isdecimal():
            raise _Unusable(f"line {line}: the index {cell!r} is no number from 0")
        return int(cell)
    if name == "right":
        if cell.lower() not in _WORDS:
            raise _Unusable(f"line {line}: right is {cell!r}: write true or false")
        return _WORDS[cell.lower()]
    return _truth(cell) if name == "truth" else cell


def _truth(cell: str) -> Any:
    """Boxes are written as JSON. Whether digits are a number or a label, the server knows."""
    if cell.startswith("["):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell
