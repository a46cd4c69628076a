"""How commands print rows: a table for people; CSV, JSON or JSON lines for programs."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quartet.offline.flat import spread
from quartet.offline.tables import format_table, terminal_width, to_cell

FORMATS = ("table", "csv", "json", "jsonl")


def add_format(parser: argparse.ArgumentParser, formats: Sequence[str] = FORMATS) -> None:
    """Adds `--format`, and `--json` for short."""
    short = "jsonl" if "jsonl" in formats else "json"
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--format", choices=formats, default="table", help="of the output (default: table)")
    which.add_argument("--json", dest="format", action="store_const", const=short, help=f"the same as --format {short}")


# The former name of `typicality` stays in JSON for one version.
_LEFT_OUT = {"unfamiliar"}


class Printer:
    """Prints rows; JSON lines at once, everything else at the end.

    Args:
        format_: one of `FORMATS`.
        below: for a list of something else than answers, the column whose cells stand below their rows in a table that
            is too wide for the terminal.
    """

    def __init__(self, format_: str, below: str | None = None) -> None:
        self._format = format_
        self._below = below
        self._rows: list[Mapping[str, Any]] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Prints a row, or keeps it."""
        if self._format == "jsonl":
            print(json.dumps(row, ensure_ascii=False), flush=True)
        else:
            self._rows.append(row)

    def end(self) -> None:
        """Prints the rows that were kept."""
        if self._format == "json":
            print(json.dumps(self._rows, ensure_ascii=False))
        elif self._format == "csv" and self._rows:
            _print_csv(self._rows if self._below else [flat for row in self._rows for flat in _flat(row)])
        elif self._format == "table":
            width = terminal_width() if self._below else None
            cells = [
                {name: to_cell(name, value) for name, value in row.items() if name not in _LEFT_OUT}
                for row in self._rows
            ]
            for line in format_table(cells, width, below=self._below):
                print(line)


def _flat(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file for an answer; `error` is the last column."""
    left_out = {"labels", "boxes", "png", "error", *_LEFT_OUT}
    for flat in spread(row):
        yield {name: value for name, value in flat.items() if name not in left_out} | {"error": flat["error"]}


def _print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = sorted(names, key=lambda name: name == "error")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value
