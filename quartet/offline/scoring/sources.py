"""The inputs of scoring: a folder of images, or the rows of a Parquet, CSV or JSON Lines file."""

import codecs
import csv
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pydantic_core

from quartet.extras import needs
from service.errors import InvalidRequest

# Suffixes of images in a folder.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# Suffixes of files whose rows are items.
_DELIMITERS = (",", ";", "\t", "|")
# Bytes of a line that tell the separator; fewer than the longest cell that is read.
_LONGEST_LINE = 1 << 16
TABLE_SUFFIXES = (".parquet", ".pq", ".csv", ".jsonl", ".ndjson")
# Bytes of a file in which its lines are counted at once.
_SLICE = 1 << 20


class UnusableInput(Exception):
    """The input or output cannot be used; the message says why and what could be."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item to score.

    Attributes:
        row: its index in the input.
        record: a mapping by column, or the error that prevented reading it.
    """

    row: int
    record: Any


class Source(Protocol):
    """Items in a stable order.

    Attributes:
        total: number of items; for a CSV file an upper bound, its number of lines.
        columns: names of the columns; None if each row has its own.
        base: the folder that image paths are relative to.
    """

    total: int
    columns: Sequence[str] | None
    base: Path

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        """Yields the items from an index on, with some of the columns."""


def open_source(path: Path, listing: Path, cell: Callable[[str], Any]) -> Source:
    """Opens the source at a path.

    Args:
        path: a folder, or a file whose name ends with .parquet, .csv, .jsonl or .ndjson.
        listing: a file that records the files of a folder, so that a resumed run reads the same ones.
        cell: parses a cell of a CSV file.

    Raises:
        UnusableInput: there is nothing there that can be read.
    """
    if path.is_dir():
        return _Folder(path, listing)
    if not path.is_file():
        raise UnusableInput(f"{path} does not exist.")
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _Parquet(path)
    if suffix == ".csv":
        return _Csv(path, cell)
    if suffix in (".jsonl", ".ndjson"):
        return _JsonLines(path)
    raise UnusableInput(f"{path}: is neither a folder nor a .parquet, .csv, .jsonl or .ndjson file.")


class _Folder:
    """The images below a folder, by path; the column is `path`."""

    columns: Sequence[str] | None = ("path",)

    def __init__(self, path: Path, listing: Path) -> None:
        self.base = path
        self._listing = listing
        if not listing.exists():
            draft = listing.with_suffix(".draft")
            with draft.open("w") as file:
                for found in images_below(path):
                    file.write(json.dumps(str(found.relative_to(path))) + "\n")
            draft.rename(listing)
        self.total = _count_lines(listing)
        if not self.total:
            raise UnusableInput(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)}).")

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:  # noqa: ARG002 - there is but one
        with self._listing.open() as file:
            for row, line in enumerate(itertools.islice(file, start, None), start):
                yield Item(row, {"path": json.loads(line)})


class _Parquet:
    """The rows of a Parquet file."""

    def __init__(self, path: Path) -> None:
        self.base = path.parent
        self._path = path
        with needs("score"):
            import pyarrow.parquet as pq
        try:
            with pq.ParquetFile(path) as file:
                self.total: int = file.metadata.num_rows
                self.columns: Sequence[str] | None = file.schema_arrow.names
        except Exception as error:  # the library's own and the system's
            raise UnusableInput(f"{path}: is no parquet file that can be read ({error}).") from None

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path) as file:
            groups: list[int] = []
            before = 0
            for index in range(file.num_row_groups):
                rows = file.metadata.row_group(index).num_rows
                if before + rows <= start and not groups:
                    before += rows
                else:
                    groups.append(index)
            row = before
            for batch in file.iter_batches(1024, row_groups=groups, columns=list(columns)):
                for record in batch.to_pylist():
                    if row >= start:
                        yield Item(row, record)
                    row += 1


class _Csv:
    """The rows of a CSV file under a line of column names (RFC 4180, UTF-8; other separators are found)."""

    def __init__(self, path: Path, cell: Callable[[str], Any]) -> None:
        self.base = path.parent
        self._path = path
        self._cell = cell
        self.total = max(0, _count_lines(path) - 1)
        self._delimiter = _find_delimiter(path)
        self._header = next(self._lines(), None)
        if not isinstance(self._header, list):
            raise UnusableInput(f"{path}: has no line of column names ({self._header or 'it is empty'}).")
        self.columns: Sequence[str] | None = [name.strip() for name in self._header]

    def _lines(self) -> Iterator[list[str] | csv.Error]:
        with self._path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = csv.reader(file, delimiter=self._delimiter)
            while True:
                try:
                    line = next(lines, None)
                except csv.Error as error:
                    yield error
                    continue
                if line is None:
                    return
                if line:
                    yield line

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        header = list(self.columns or ())
        indices = [(name, header.index(name)) for name in columns]
        for row, line in enumerate(itertools.islice(self._lines(), 1 + start, None), start):
            if isinstance(line, csv.Error):
                yield Item(row, InvalidRequest(f"The row cannot be read ({line})."))
            elif len(line) != len(header):
                yield Item(row, InvalidRequest(f"The row has {len(line)} cells, not {len(header)}."))
            else:
                yield Item(row, {name: self._cell(line[index]) for name, index in indices})


def _find_delimiter(path: Path) -> str:
    """The separator by which the first row has as many cells as the line of names, and that gives the most.

    Raises:
        UnusableInput: the line of names is not in UTF-8.
    """
    with path.open("rb") as file:
        lines = [file.readline(_LONGEST_LINE) for _ in range(2)]
    try:
        # The sample may end within a character.
        names = codecs.getincrementaldecoder("utf-8-sig")().decode(lines[0])
    except UnicodeDecodeError:
        raise UnusableInput(
            f"{path}: is not in UTF-8. Save it as UTF-8, or convert it, from cp949 for instance: "
            f"iconv -f cp949 -t utf-8 {path.name} > new.csv"
        ) from None
    widths = {}
    for delimiter in _DELIMITERS:
        head, first = (
            next(csv.reader([line], delimiter=delimiter), []) for line in (names, lines[1].decode(errors="replace"))
        )
        if len(head) > 1 and len(first) in (0, len(head)):
            widths[delimiter] = len(head)
    return max(widths, key=widths.__getitem__, default=",")


class _JsonLines:
    """The rows of a JSON Lines file."""

    columns: Sequence[str] | None = None

    def __init__(self, path: Path) -> None:
        self.base = path.parent
        self._path = path
        self.total = _count_lines(path)

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        with self._path.open("rb") as file:
            for row, line in enumerate(itertools.islice(file, start, None), start):
                yield Item(row, _record(line, columns))


def _record(line: bytes, columns: Sequence[str]) -> Any:
    try:
        record = pydantic_core.from_json(line, cache_strings="none")
    except ValueError as error:
        return InvalidRequest(f"The line is not valid JSON ({error}).")
    if not isinstance(record, dict):
        return InvalidRequest("The line is no JSON object.")
    if missing := [name for name in columns if name not in record]:
        return InvalidRequest(f"The line lacks {', '.join(missing)}.")
    return {name: record[name] for name in columns}


def images_below(folder: Path) -> Iterator[Path]:
    """The images below a folder, one folder after the other, in the order of names."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from images_below(Path(entry.path))
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield Path(entry.path)


def _count_lines(path: Path) -> int:
    """Lines of a file, of which the last one need not be ended."""
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while piece := file.read(_SLICE):
            count += piece.count(b"\n")
            last = piece[-1:]
    return count + (last != b"\n")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Groups items into lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
