"""Reading rows with named columns, in any order, from JSON records or CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from service.errors import BodyTooLarge, InvalidRequest, truncate
from service.faults import Faults, pointer
from service.tasks.tabular.columns import LARGEST, UNKNOWN, ColumnCard, not_a_number, reader_of

Floats = npt.NDArray[np.float32]
# Missing columns that an error names.
_NAMED = 30
_DELIMITERS = (",", ";", "\t")


class Columns:
    """The columns of a model, ready to read rows, and the names of further columns that rows may have."""

    def __init__(self, cards: Sequence[ColumnCard], ignored: Sequence[str] = ()) -> None:
        self.names = tuple(card.name for card in cards)
        self.readers = tuple(reader_of(card) for card in cards)
        self.known = frozenset(self.names)
        self.ignored = frozenset(ignored) - self.known
        self.cards = tuple(cards)
        self.plain = all(card.plain for card in cards)
        # Whether every finite float is a value of every column.
        self.floats = self.plain and not any(card.integer for card in cards)
        # Whether JSON strings may stand for values: in a table of numbers alone, JSON's own numbers do.
        self.textual = any(not card.plain or card.missing_words for card in cards)
        self._categories = tuple(i for i, card in enumerate(cards) if card.kind == "category")

    def unknown(self, row: Floats) -> list[str]:
        """The names of the columns whose word occurs in no training row."""
        return [self.names[index] for index in self._categories if row[index] == UNKNOWN]


def from_records(records: object, columns: Columns, most: int, *, cells: bool = False) -> Floats:
    """Reads rows from a list of JSON objects, each with every column; null is a missing value.

    With `cells`, strings are text cells, which may hold numbers.

    Returns:
        float32, shape (rows, columns), NaN where a value is missing.

    Raises:
        InvalidRequest: values or columns are wrong; names the row (from 0) and the column of each.
        BodyTooLarge: there are more than `most` rows.
    """
    if not isinstance(records, list) or not records:
        raise InvalidRequest('The JSON must be {"rows": [{"<column>": <value>, …}, …]} with at least one row.')
    if len(records) > most:
        raise _too_many(most)
    rows = np.empty((len(records), len(columns.names)), dtype=np.float32)
    faults = Faults()
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            said = f"Row {number} must be an object of columns and values."
            faults.add(said, pointer=_pointer(number), index=number)
            continue
        if record.keys() != columns.known and record.keys() - columns.ignored != columns.known:
            faults.add(_wrong_columns(number, record.keys(), columns), pointer=_pointer(number), index=number)
            continue
        values = [record[name] for name in columns.names]
        # Nearly all rows hold only numbers, which numpy converts at once.
        if (
            columns.floats
            and {float, int}.issuperset(map(type, values))
            and all(-LARGEST <= value <= LARGEST for value in values)
        ):
            rows[number] = values
        else:
            for index, value in enumerate(values):
                rows[number, index] = _read(number, index, value, columns, cells, faults)
    faults.check()
    return rows


def from_csv(text: str, columns: Columns, most: int) -> Floats:
    """Reads CSV rows under a header of column names; an empty cell is a missing value. See `from_records`.

    The delimiter is a comma, or a semicolon or tab if the header uses it.
    """
    text = text.rstrip("\r\n")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, columns))
    lines: list[list[str]] = []
    try:
        for line in reader:
            # Empty lines are skipped, but in a table of one column they are missing values.
            if line or (len(columns.names) == 1 and lines):
                lines.append(line or [""])
            if len(lines) > most + 1:
                raise _too_many(most)
    except csv.Error as error:
        raise InvalidRequest(f"The CSV cannot be read at line {reader.line_num}: {error}.") from None
    if len(lines) < 2:
        raise InvalidRequest("The CSV must have a line of column names and at least one row.")
    header = [name.strip() for name in lines[0]]
    taken = set(header) - columns.ignored
    if taken != columns.known or len(header) != len(set(header)):
        raise InvalidRequest(_wrong_columns(None, header, columns), pointer=pointer())
    positions = [(header.index(name), index) for index, name in enumerate(columns.names)]
    rows = np.empty((len(lines) - 1, len(columns.names)), dtype=np.float32)
    faults = Faults()
    for number, line in enumerate(lines[1:]):
        if len(line) != len(header):
            said = f"Row {number} has {len(line)} cells, not {len(header)}."
            faults.add(said, pointer=_pointer(number), index=number)
            continue
        for position, index in positions:
            rows[number, index] = _read(number, index, line[position].strip(), columns, True, faults)
    faults.check()
    return rows


def _delimiter(text: str, columns: Columns) -> str:
    """The first delimiter that splits a known column name from the header; a comma by default."""
    head = text.partition("\n")[0].partition("\r")[0]
    for delimiter in _DELIMITERS:
        if any(name.strip().strip('"') in columns.known for name in head.split(delimiter)):
            return delimiter
    return ","


def _pointer(row: int, *column: str) -> str:
    """Where something is in the document of rows; in CSV, where it would be in the same rows as JSON."""
    return pointer("rows", row, *column)


def _read(row: int, index: int, value: object, columns: Columns, cell: bool, faults: Faults) -> float:
    """The number of a value; NaN if it has none, which is added to `faults`."""
    try:
        if not cell and isinstance(value, str) and not columns.textual:
            raise ValueError(not_a_number(value, columns.cards[index]))
        return columns.readers[index](value)
    except ValueError as error:
        name = columns.names[index]
        faults.add(f"Row {row}, column {name!r}: {error}.", pointer=_pointer(row, name), index=row)
        return math.nan


def _too_many(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request holds more rows than the {most} that are accepted: send several requests.")


def _wrong_columns(row: int | None, found: Iterable[str], columns: Columns) -> str:
    names = list(found)
    where = "The CSV" if row is None else f"Row {row}"
    missing = [name for name in columns.names if name not in names]
    unknown = [name for name in names if name not in columns.known and name not in columns.ignored]
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        plural = "s" if len(missing) > 1 else ""
        said = f"{where} lacks the column{plural} {', '.join(map(repr, missing[:_NAMED]))}{more}"
    elif unknown:
        said = f"{where} has the unknown column {truncate(unknown[0])!r}"
    else:
        said = f"{where} has a column twice"
    return f"{said}; the columns are {', '.join(columns.names)}."
