"""Rows of named numbers, with their columns in any order, to what the model takes."""

import csv
import io
import math
import re

import numpy as np
import numpy.typing as npt

from service.errors import BodyTooLarge, InvalidRequest, shown

Floats = npt.NDArray[np.float32]
# Of the numbers that a model takes.
LARGEST = float(np.finfo(np.float32).max)

# As JSON has it, but for zeros in front, a plus and a point at either end. `float` would take more: digits of other
# scripts, 1_000, nan.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def from_records(records: object, columns: tuple[str, ...], most: int) -> Floats:
    """Rows as JSON objects; null is a missing value.

    Args:
        records: a list of objects that each have every column.
        columns: of the model, in its order.
        most: rows that are accepted.

    Returns:
        float32, shape (rows, columns), NaN where a value is missing.

    Raises:
        InvalidRequest: names the row (from 0) and the column that is at fault.
        BodyTooLarge: more rows.
    """
    if not isinstance(records, list) or not records:
        raise InvalidRequest('The JSON must be {"rows": [{"<column>": <number>, …}, …]} with at least one row.')
    if len(records) > most:
        raise _too_many(most)
    known = set(columns)
    rows = np.empty((len(records), len(columns)), dtype=np.float32)
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise InvalidRequest(f"Row {number} must be an object of columns and numbers.", index=number)
        if record.keys() != known:
            raise _columns(number, record.keys(), columns)
        values = [record[name] for name in columns]
        # Nearly all rows are numbers alone, which can be taken together.
        if {float, int}.issuperset(map(type, values)) and all(-LARGEST <= value <= LARGEST for value in values):
            rows[number] = values
        else:
            rows[number] = [_number(number, name, value) for name, value in zip(columns, values, strict=True)]
    return rows


def from_csv(text: str, columns: tuple[str, ...], most: int) -> Floats:
    """Rows as CSV under a line of column names; an empty cell is a missing value. See `from_records`."""
    reader = csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""))
    lines: list[list[str]] = []
    try:
        for line in reader:
            # An empty line is nothing; but between the rows of a single column it is a missing value.
            if line or (len(columns) == 1 and lines):
                lines.append(line or [""])
            if len(lines) > most + 1:
                raise _too_many(most)
    except csv.Error as error:
        raise InvalidRequest(f"The CSV cannot be read at line {reader.line_num}: {error}.") from None
    if len(lines) < 2:
        raise InvalidRequest("The CSV must have a line of column names and at least one row.")
    header = [name.strip() for name in lines[0]]
    if set(header) != set(columns) or len(header) != len(columns):
        raise _columns(None, header, columns)
    positions = {name: position for position, name in enumerate(columns)}
    rows = np.empty((len(lines) - 1, len(columns)), dtype=np.float32)
    for number, line in enumerate(lines[1:]):
        if len(line) != len(header):
            raise InvalidRequest(f"Row {number} has {len(line)} cells, not {len(header)}.", index=number)
        for name, cell in zip(header, line, strict=True):
            rows[number, positions[name]] = _number(number, name, parse_cell(cell))
    return rows


def _too_many(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request holds more rows than the {most} that are accepted: send several requests.")


def parse_cell(cell: str) -> object:
    """What a cell stands for: a number, None where it is empty, and a string where it is neither."""
    cell = cell.strip()
    if not cell:
        return None
    return float(cell) if _NUMBER.fullmatch(cell) else cell


def _number(row: int, column: str, value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(
            f"Row {row}, column {column!r}: {shown(repr(value))} is no number; null stands for a missing one.",
            index=row,
        )
    if not abs(value) <= LARGEST:
        raise InvalidRequest(
            f"Row {row}, column {column!r}: {shown(str(value))} is no finite number (of float32).", index=row
        )
    return float(value)


def _columns(row: int | None, found: object, columns: tuple[str, ...]) -> InvalidRequest:
    """What is wrong with the names of columns."""
    names = list(found)  # type: ignore[call-overload]
    where = "The CSV" if row is None else f"Row {row}"
    missing = [name for name in columns if name not in names]
    unknown = [name for name in names if name not in columns]
    if missing:
        said = f"{where} lacks the column {missing[0]!r}" + (
            f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        )
    elif unknown:
        said = f"{where} has the unknown column {shown(str(unknown[0]))!r}"
    else:
        said = f"{where} has a column twice"
    return InvalidRequest(f"{said}; the columns are {', '.join(columns)}.", index=row)
