"""A table as it was written: its columns in parts, in memory or on disk, and where each of its rows is."""

import dataclasses
import json
import mmap
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.data import hub
from training.data.dataset import DataError
from training.data.inspection import Problems

_ROWS = 10_000
_IN_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was written.

    Attributes:
        name: of the file, or of the data set and its split.
        columns: their names, in order.
        rows: how many.
        parts: the values of a column, in order, a part at a time. Those of text formats are strings and None, those
            of typed formats (parquet, the hub) have the types of the file.
        lines: where each row begins, int64; None if rows have no lines.
        classes: the names of class labels that are stored as numbers, by column.
        delimiter: of a CSV file, otherwise empty.
        locations: what to call each row in messages, if neither line nor row says it.
        origins: the tables that were joined into this one, in order.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    parts: Callable[[str], Iterator[pa.Array]] = field(repr=False)
    lines: npt.NDArray[np.int64] | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    delimiter: str = ""
    locations: Sequence[str] | None = field(default=None, repr=False)
    origins: "tuple[Table, ...]" = ()

    def values(self, column: str) -> Iterator[Any]:
        """The values of a column, in order."""
        for part in self.parts(column):
            yield from part.to_pylist()

    def take(self, rows: npt.NDArray[np.int64]) -> "Table":
        """Some of the rows, which are still not in memory.

        Args:
            rows: their indices, in ascending order.
        """

        def parts(column: str) -> Iterator[pa.Array]:
            start = 0
            for part in self.parts(column):
                first, last = np.searchsorted(rows, (start, start + len(part)))
                if first < last:
                    yield part.take(pa.array(rows[first:last] - start))
                start += len(part)

        return dataclasses.replace(
            self, rows=len(rows), parts=parts, lines=None, locations=_LocationsOf(self, rows), origins=()
        )

    def where(self, row: int) -> str:
        """Where a row is, for messages: the file and its line, or the row counted from 0."""
        for table in self.origins:
            if row < table.rows:
                return table.where(row)
            row -= table.rows
        if self.locations is not None:
            return self.locations[row]
        return f"{self.name} row {row}" if self.lines is None else f"{self.name}:{self.lines[row]}"


class _LocationsOf(Sequence[str]):
    """What some rows of a table are called there."""

    def __init__(self, table: Table, rows: npt.NDArray[np.int64]) -> None:
        self._table, self._rows = table, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._table.where(int(self._rows[index]))


def joined(tables: Sequence[Table]) -> Table:
    """Tables with the same columns as one, in the order given."""
    first = tables[0]
    if len(tables) == 1:
        return first

    def parts(name: str) -> Iterator[pa.Array]:
        return chain.from_iterable(table.parts(name) for table in tables)

    rows = sum(table.rows for table in tables)
    return dataclasses.replace(first, rows=rows, parts=parts, lines=None, origins=tuple(tables))


def from_dataset(name: str, part: datasets.Dataset) -> Table:
    """A split of a data set of the hub, or of parquet files, whose cells have types."""
    names = tuple(column.strip() for column in part.column_names)
    check_names(name, names)
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


def stored(name: str, header: Sequence[str], rows: Iterable[tuple[int, Sequence[str | None]]], **more: Any) -> Table:
    """A table of text cells, from rows with their lines; a large one is kept in an unnamed file.

    Args:
        name: of the file.
        header: the columns' names.
        rows: line and cells.
        more: of the table.
    """
    names = tuple(column.strip() or f"unnamed {number}" for number, column in enumerate(header, start=1))
    check_names(name, names)
    schema = pa.schema([(str(number), pa.large_string()) for number in range(len(names))])
    lines = array("q")
    batches: Any = []
    size, writer, file = 0, None, None
    iterator = iter(rows)
    while chunk := list(islice(iterator, _ROWS)):
        lines.extend(line for line, _ in chunk)
        columns = zip(*(cells for _, cells in chunk), strict=True)
        batch = pa.record_batch([pa.array(column, pa.large_string()) for column in columns], schema=schema)
        batches.append(batch)
        size += batch.nbytes
        if size > _IN_MEMORY:
            if writer is None:
                # Its space is freed when the process ends, and no other process can write to it.
                file = tempfile.TemporaryFile(dir=hub.cache_folder())  # noqa: SIM115 - the table keeps it
                writer = pa.ipc.new_file(file, schema)
            for waiting in batches:
                writer.write_batch(waiting)
            batches = []
    if writer is not None and file is not None:
        for waiting in batches:
            writer.write_batch(waiting)
        writer.close()
        file.flush()
        # The mapping outlives the file that it was made from.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        file.close()
        batches = _OnDisk(pa.ipc.open_file(pa.py_buffer(mapped)))
    index = {column: number for number, column in enumerate(names)}
    return Table(
        name,
        names,
        len(lines),
        lambda column: (batch.column(index[column]) for batch in batches),
        lines=np.frombuffer(lines, dtype=np.int64) if lines else np.empty(0, np.int64),
        **more,
    )


class _OnDisk:
    """The batches of a file, each of which is mapped into memory while it is used."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return map(self._reader.get_batch, range(self._reader.num_record_batches))


def fitting(
    name: str, width: int, rows: Iterable[tuple[int, Sequence[str | None]]], problems: Problems
) -> Iterator[tuple[int, Sequence[str | None]]]:
    """The rows that have as many cells as the header; empty ones are passed over, the others are problems."""
    for line, cells in rows:
        if not any(cells):
            continue
        if len(cells) > width and not any(cells[width:]):
            cells = cells[:width]
        if len(cells) == width:
            yield line, cells
        else:
            problems.add(f"{name}:{line}", f"has {len(cells)} cells, not {width}")


def check_names(where: str, names: Sequence[str]) -> None:
    """Refuses a table with two columns of the same name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: two columns have the same name, apart from spaces: {', '.join(twice)}.")


def text_of(value: Any) -> str | None:
    """A value as a cell of text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat(sep=" ") if hasattr(value, "hour") and hasattr(value, "year") else value.isoformat())
    return json.dumps(value, ensure_ascii=False, default=str)
