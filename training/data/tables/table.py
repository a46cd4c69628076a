"""A table as it was written: its columns in parts, read from disk when they are needed, and where each row is."""

import dataclasses
import json
import mmap
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate, chain, islice
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.data import hub
from training.data.dataset import DataError

_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was written.

    Attributes:
        name: of the file, or of the data set and its split.
        columns: their names, in order.
        rows: how many.
        parts: the values of a column, in order, a part at a time. Those of text formats are strings and None, those
            of typed formats (parquet, the hub) have the types of the file.
        locate: what to call a row in messages; by default its index.
        classes: the names of class labels that are stored as numbers, by column.
        delimiter: of a CSV file, otherwise empty.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    parts: Callable[[str], Iterator[pa.Array]] = field(repr=False)
    locate: Callable[[int], str] | None = field(default=None, repr=False)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    delimiter: str = ""

    def values(self, column: str) -> Iterator[Any]:
        """The values of a column, in order."""
        return chain.from_iterable(part.to_pylist() for part in self.parts(column))

    def where(self, row: int) -> str:
        """Where a row is, for messages: the file and its line, or the row counted from 0."""
        return self.locate(row) if self.locate else f"{self.name} row {row}"

    def take(self, rows: npt.NDArray[np.int64]) -> "Table":
        """Some of the rows, by their indices in ascending order, which are still not in memory."""

        def parts(column: str) -> Iterator[pa.Array]:
            start = 0
            for part in self.parts(column):
                first, last = np.searchsorted(rows, (start, start + len(part)))
                if first < last:
                    yield part.take(pa.array(rows[first:last] - start))
                start += len(part)

        return dataclasses.replace(self, rows=len(rows), parts=parts, locate=lambda row: self.where(int(rows[row])))


def joined(tables: Sequence[Table]) -> Table:
    """Tables with the same columns as one, in the order given."""
    starts = [0, *accumulate(table.rows for table in tables)]

    def parts(column: str) -> Iterator[pa.Array]:
        return chain.from_iterable(table.parts(column) for table in tables)

    def locate(row: int) -> str:
        index = int(np.searchsorted(starts, row, side="right")) - 1
        return tables[index].where(row - starts[index])

    return dataclasses.replace(tables[0], rows=starts[-1], parts=parts, locate=locate)


def from_dataset(name: str, part: datasets.Dataset) -> Table:
    """A split of a data set of the hub, or of parquet files, whose cells have types."""
    names = tuple(column.strip() for column in part.column_names)
    _check_names(name, names)
    originals = dict(zip(names, part.column_names, strict=True))

    def parts(column: str) -> Iterator[pa.Array]:
        original = originals[column]
        for batch in part.select_columns(original).with_format("arrow").iter(_ROWS):
            yield from batch[original].chunks

    classes = {
        column: tuple(kind.names)
        for column, kind in zip(names, part.features.values(), strict=True)
        if isinstance(kind, datasets.ClassLabel) and kind.names
    }
    return Table(name, names, len(part), parts, classes=classes)


def stored(
    name: str, header: Sequence[str], rows: Iterable[tuple[int, Sequence[str | None]]], delimiter: str = ""
) -> Table:
    """A table of text cells, from rows with their lines; it is kept in an unnamed file and mapped into memory.

    Args:
        name: of the file.
        header: the columns' names.
        rows: line and cells.
        delimiter: of a CSV file.
    """
    names = tuple(column.strip() or f"unnamed {number}" for number, column in enumerate(header, start=1))
    _check_names(name, names)
    schema = pa.schema([(str(number), pa.large_string()) for number in range(len(names))])
    lines = array("q")
    iterator = iter(rows)
    # The space is freed when the table is, and no other process can write to it.
    with tempfile.TemporaryFile(dir=hub.cache_folder()) as file:
        with pa.ipc.new_file(file, schema) as writer:
            while chunk := list(islice(iterator, _ROWS)):
                lines.extend(line for line, _ in chunk)
                columns = zip(*(cells for _, cells in chunk), strict=True)
                writer.write_batch(pa.record_batch([pa.array(c, pa.large_string()) for c in columns], schema=schema))
        file.flush()
        reader = pa.ipc.open_file(pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    def parts(column: str) -> Iterator[pa.Array]:
        index = names.index(column)
        return (reader.get_batch(number).column(index) for number in range(reader.num_record_batches))

    return Table(name, names, len(lines), parts, lambda row: f"{name}:{lines[row]}", delimiter=delimiter)


def text_of(value: Any) -> str | None:
    """A value as a cell of text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if hasattr(value, "isoformat"):  # a date or a time
        return str(value.isoformat())
    if isinstance(value, float):
        return str(value)  # JSON has other words for infinity and NaN
    return json.dumps(value, ensure_ascii=False, default=str)


def _check_names(where: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: two columns have the same name, apart from spaces: {', '.join(twice)}.")
