"""Readers of files of delimited text, spreadsheets and JSON.

Each takes the path, the encoding of text (None to detect it), the most rows to read (None for all), `inspection`, which
gets how the file was read, and `problems`, which gets the rows that cannot be used. It raises DataError if the file
cannot be parsed or is empty.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import openpyxl

from training.data.dataset import DataError, Inspection
from training.data.encodings import find_encoding
from training.data.inspection import Problems
from training.data.tables.table import Table, stored, text_of

DELIMITED = (".csv", ".tsv", ".tab", ".txt")

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMERIC = r"[+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?"
_SAMPLE = 1 << 20
csv.field_size_limit(100_000_000)

Rows = Iterator[tuple[int, Sequence[str | None]]]
Reader = Callable[[Path, str | None, int | None, Inspection, Problems], Table]


def read_delimited(
    path: Path, encoding: str | None, most: int | None, inspection: Inspection, problems: Problems
) -> Table:
    """Reads cells between commas, semicolons, tabs or bars."""
    encoding, guessed = find_encoding(path, encoding)
    with path.open(encoding=encoding, newline="") as file:
        sample = file.read(_SAMPLE)
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else _delimiter(sample)
    # Texts with single quotation marks in them are written between tabs as they are.
    quoting = csv.QUOTE_NONE if delimiter == "\t" and _has_unbalanced_quotes(sample) else csv.QUOTE_MINIMAL
    how = [f"read as {encoding} (found; --encoding overrides it)"] if guessed else []
    how += [f"separated by {_DELIMITERS[delimiter]}"] if delimiter != "," else []
    if how:
        inspection.notes.append(f"{path.name}: {', '.join(how)}")

    def rows() -> Rows:
        with path.open(encoding=encoding, newline="") as file:
            options: Any = {"delimiter": delimiter, "quoting": quoting}
            reader = csv.reader((line.replace("\0", "") for line in file), **options)
            first_line = 1  # of a row, which may contain line ends between quotes
            try:
                for cells in reader:
                    yield first_line, cells
                    first_line = reader.line_num + 1
            except csv.Error as error:
                raise DataError(f"{path}:{reader.line_num}: cannot be read as a table: {error}") from error

    return _below_header(path, rows(), most, problems, delimiter)


def read_spreadsheet(
    path: Path,
    encoding: str | None,  # noqa: ARG001 - every reader's
    most: int | None,
    inspection: Inspection,
    problems: Problems,
) -> Table:
    """Reads the first sheet of an .xlsx file."""
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise DataError(f"{path}: cannot be read as a spreadsheet: {error}") from error
    sheet, *others = book.worksheets
    if others:
        names = ", ".join(repr(other.title) for other in others)
        inspection.notes.append(f"{path.name}: only the first sheet, {sheet.title!r}, is read, not {names}")

    def rows() -> Rows:
        width = 0
        for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            width = max(width, len(cells))  # the library leaves out empty cells at the end
            yield line, [text_of(cell) for cell in cells] + [None] * (width - len(cells))

    table = _below_header(path, rows(), most, problems)
    book.close()
    return table


def read_json(
    path: Path,
    encoding: str | None,
    most: int | None,  # noqa: ARG001 - every reader's: the columns are those of all objects
    inspection: Inspection,
    problems: Problems,
) -> Table:
    """Reads JSON objects, one on each line or a list of them; a column is a name that any of them has."""
    encoding, guessed = find_encoding(path, encoding)
    if guessed:
        inspection.notes.append(f"{path.name}: read as {encoding} (found; --encoding overrides it)")
    columns = list(dict.fromkeys(name for _, record in _records(path, encoding, Problems()) for name in record))
    if not columns:
        raise DataError(f"{path}: holds no JSON objects; write one on each line, or a list of them.")
    records = _records(path, encoding, problems)
    return stored(path.name, columns, ((line, [text_of(record.get(c)) for c in columns]) for line, record in records))


READERS: dict[str, Reader] = {
    **dict.fromkeys(DELIMITED, read_delimited),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), read_json),
    ".xlsx": read_spreadsheet,
}


def _below_header(path: Path, rows: Rows, most: int | None, problems: Problems, delimiter: str = "") -> Table:
    """The rows below the names of the columns that have as many cells; the others are problems, unless empty."""
    names = [cell or "" for cell in next((cells for _, cells in rows if any(cells)), ())]
    while names and not names[-1].strip():  # spreadsheet programs leave empty columns behind
        names.pop()
    if not names:
        raise DataError(f"{path}: is empty.")
    if sum(bool(re.fullmatch(_NUMERIC, name.strip())) for name in names) * 2 > len(names):
        raise DataError(
            f"{path}: the first line holds values ({', '.join(names[:3])}, …) and not the names of the columns: "
            "put a line of names above it."
        )
    width = len(names)

    def fitting() -> Rows:
        for line, cells in islice(rows, most):
            if len(cells) > width and not any(cells[width:]):
                cells = cells[:width]
            if any(cells) and len(cells) == width:
                yield line, cells
            elif any(cells):
                problems.add(f"{path.name}:{line}", f"has {len(cells)} cells, not {width}")

    return stored(path.name, names, fitting(), delimiter)


def _delimiter(sample: str) -> str:
    """The one by which most rows have as many cells as the header, which has several."""
    scores = {}
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        try:
            widths = [len(row) for row in islice(reader, 200) if row]
        except csv.Error:
            continue
        # A sample ends in the middle of a row.
        widths = widths[:-1] if len(widths) > 2 else widths
        if widths and widths[0] > 1:
            scores[delimiter] = (sum(width == widths[0] for width in widths) / len(widths), widths[0])
    return max(scores, key=lambda delimiter: scores[delimiter], default=",")


def _has_unbalanced_quotes(sample: str) -> bool:
    """Whether every line has the same number of tabs although quotation marks in it are unbalanced."""
    lines = [line for line in sample.splitlines()[:-1] or sample.splitlines() if line]
    return any(line.count('"') % 2 for line in lines) and len({line.count("\t") for line in lines}) == 1


def _records(path: Path, encoding: str, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in a file of JSON lines or in a JSON list, each with its line or number."""
    with path.open(encoding=encoding) as file:
        is_list = file.read(_SAMPLE).lstrip().startswith("[")
        file.seek(0)
        items: Iterable[Any] = file
        if is_list:
            try:
                items = json.load(file)
            except ValueError as error:
                raise DataError(f"{path}: is not valid JSON: {error}") from error
        for number, item in enumerate(items, start=1):
            if not is_list and not item.strip():
                continue
            try:
                record = item if is_list else json.loads(item)
            except ValueError as error:
                problems.add(f"{path.name}:{number}", f"is not valid JSON: {error}")
                continue
            if isinstance(record, dict):
                yield number, record
            else:
                problems.add(f"{path.name}:{number}", "is not a JSON object")
