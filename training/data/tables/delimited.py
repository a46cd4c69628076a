"""Tables in files of text: commas, semicolons, tabs or bars between their cells, in any encoding."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from training.data.dataset import DataError, Inspection
from training.data.encodings import find_encoding
from training.data.inspection import Problems
from training.data.tables.table import Table, fitting, stored

DELIMITED = (".csv", ".tsv", ".tab", ".txt")

_LARGEST_CELL = 100_000_000
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMERIC = r"[+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?"


def read_delimited(
    path: Path,
    problems: Problems,
    encoding: str | None,
    inspection: Inspection,
    most: int | None,
) -> Table:
    """Reads a file of delimited text.

    Args:
        path: of the file.
        problems: gets the rows that do not fit their header.
        encoding: of the file; found by default.
        inspection: gets how it was read.
        most: the most rows to read; by default all.

    Raises:
        DataError: it is empty, cannot be parsed, or has no header.
    """
    encoding, guessed = find_encoding(path, encoding)
    sample = _sample(path, encoding)
    if not sample.strip():
        raise DataError(f"{path}: the file is empty.")
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else _delimiter(sample)
    # Texts with single quotation marks in them are written between tabs as they are.
    quoted = delimiter != "\t" or not _tabs_end_cells(sample)
    said = [f"read as {encoding} (found; --encoding overrides it)"] if guessed else []
    said += [f"separated by {_DELIMITERS[delimiter]}"] if delimiter != "," else []
    if said:
        inspection.notes.append(f"{path.name}: {', '.join(said)}")

    def rows() -> Iterator[tuple[int, Sequence[str | None]]]:
        before = csv.field_size_limit(_LARGEST_CELL)
        try:
            with path.open(encoding=encoding, newline="") as file:
                # Between quotes there may be line ends; a row is where it begins.
                options: Any = {"delimiter": delimiter, "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE}
                reader = csv.reader((line.replace("\0", "") for line in file), **options)
                line = 1
                for cells in reader:
                    yield line, cells
                    line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: cannot be read as a table: {error}") from error
        finally:
            csv.field_size_limit(before)

    every = rows()
    header = next((cells for _, cells in every if any(cells)), None)
    if header is None:
        raise DataError(f"{path}: the file is empty.")
    names = [str(cell) for cell in header]
    while len(names) > 1 and not names[-1].strip():  # Excel leaves empty columns behind
        names.pop()
    if sum(bool(re.fullmatch(_NUMERIC, name.strip())) for name in names) * 2 > len(names):
        raise DataError(
            f"{path}: the first line holds values ({', '.join(names[:3])}, …) and not the names of the columns: "
            "put a line of names above it."
        )
    kept = fitting(path.name, len(names), islice(every, most), problems)
    return stored(path.name, names, kept, delimiter=delimiter)


def _sample(path: Path, encoding: str, size: int = 1 << 20) -> str:
    with path.open(encoding=encoding, newline="") as file:
        return file.read(size)


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
    return max(scores, key=lambda delimiter: scores[delimiter]) if scores else ","


def _tabs_end_cells(sample: str) -> bool:
    """Whether every line has the same number of tabs although quotation marks in it are unbalanced."""
    lines = [line for line in sample.splitlines()[:-1] or sample.splitlines() if line]
    unbalanced = any(line.count('"') % 2 for line in lines)
    return unbalanced and len({line.count("\t") for line in lines}) == 1
