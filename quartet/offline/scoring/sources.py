"""The inputs of scoring: a folder of images, or the rows of a Parquet, CSV, TSV or JSON Lines file."""

import codecs
import csv
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from quartet.extras import needs

# Suffixes of images in a folder.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
DELIMITED = (".csv", ".tsv", ".tab")
_DELIMITERS = (",", ";", "\t", "|")
# Bytes of a line that tell the separator; fewer than the longest cell that is read.
_LONGEST_LINE = 1 << 16
# Suffixes of files whose rows are items.
TABLE_SUFFIXES = (".parquet", ".pq", *DELIMITED, ".jsonl", ".ndjson")
# Rows that tell what a column holds.
_SAMPLE = 100
# Bytes of a file in which its lines are counted at once.
_SLICE = 1 << 20


class BadItem(Exception):
    """An item cannot be read; the message says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class UnusableJob(Exception):
    """The model does not support the job; the message says what it supports."""


class MissingColumn(UnusableJob):
    """The input lacks a column that the model reads, or it is not clear which one is meant."""


NOTHING: Mapping[str, Any] = MappingProxyType({})


class UnusableInput(Exception):
    """The input or output cannot be used; the message says why and what could be."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item to score.

    Attributes:
        row: its index in the input.
        record: a mapping by column, or the error that prevented reading it, a `BadItem`.
        carried: values for the output, by its columns.
    """

    row: int
    record: Any
    carried: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """Items in a stable order.

    Attributes:
        total: number of items; for a CSV file an upper bound, its number of lines.
        columns: names of the columns; None if each row has its own.
        plain: the columns of numbers, words or dates, which are carried over into the output by default.
        types: the Arrow types of columns that are not text.
        base: the folder that image paths are relative to.
    """

    total: int
    columns: Sequence[str] | None
    plain: Sequence[str]
    types: Mapping[str, Any]
    base: Path

    def sample(self) -> list[Mapping[str, Any]]:
        """The first rows, with all columns."""

    def items(self, start: int, columns: Sequence[str], carried: Mapping[str, str] = ...) -> Iterator[Item]:
        """Yields the items from an index on.

        Args:
            start: the index.
            columns: of the records.
            carried: names in `Item.carried`, by the column.
        """


def open_source(path: Path, listing: Path, cell: Callable[[str], Any], *, texts: bool = False) -> Source:
    """Opens the source at a path.

    Args:
        path: a folder, or a file whose name ends with .parquet, .csv, .tsv, .jsonl or .ndjson.
        listing: a file that records the files of a folder, so that a resumed run reads the same ones.
        cell: parses a cell of a CSV file.
        texts: whether the files of a folder are texts; otherwise images.

    Raises:
        UnusableInput: there is nothing there that can be read.
    """
    if path.is_dir():
        return _Texts(path, listing) if texts else _Images(path, listing)
    if not path.is_file():
        raise UnusableInput(f"{path} does not exist.")
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return _Parquet(path)
    if suffix in DELIMITED:
        return _Csv(path, cell)
    if suffix in (".jsonl", ".ndjson"):
        return _JsonLines(path)
    hint = " If it is a table, call it .csv or .tsv." if suffix == ".txt" else ""
    raise UnusableInput(f"{path}: is neither a folder nor a .parquet, .csv, .tsv, .jsonl or .ndjson file.{hint}")


class _Files:
    """The files below a folder that end with one of `suffixes`."""

    suffixes: tuple[str, ...]
    types: Mapping[str, Any] = NOTHING

    def __init__(self, path: Path, listing: Path) -> None:
        self.base = path
        self._listing = listing
        if not listing.exists():
            draft = listing.with_suffix(".draft")
            with draft.open("w") as file:
                for found in files_below(path, self.suffixes):
                    file.write(json.dumps(str(found.relative_to(path))) + "\n")
            draft.rename(listing)
        self.total = _count_lines(listing)
        if not self.total:
            raise UnusableInput(f"{path} holds no files that end with {', '.join(self.suffixes)}.")

    def sample(self) -> list[Mapping[str, Any]]:
        return []

    def _names(self, start: int) -> Iterator[tuple[int, str]]:
        """The index and the path of each file, relative to the folder."""
        with self._listing.open() as file:
            for row, line in enumerate(itertools.islice(file, start, None), start):
                yield row, json.loads(line)


class _Images(_Files):
    """The images below a folder, by path; the column is `path`."""

    suffixes = IMAGE_SUFFIXES
    columns: Sequence[str] | None = ("path",)
    plain: Sequence[str] = ()

    def items(self, start: int, columns: Sequence[str], carried: Mapping[str, str] = NOTHING) -> Iterator[Item]:  # noqa: ARG002
        for row, name in self._names(start):
            yield Item(row, {"path": name})


class _Texts(_Files):
    """The text files below a folder; `name` is the path."""

    suffixes = (".txt",)
    columns: Sequence[str] | None = ("text", "name")
    plain: Sequence[str] = ("name",)

    def items(self, start: int, columns: Sequence[str], carried: Mapping[str, str] = NOTHING) -> Iterator[Item]:  # noqa: ARG002
        for row, name in self._names(start):
            cells: dict[str, Any] = {"name": printable(name)}
            record: Any = cells
            try:
                cells["text"] = (self.base / name).read_text("utf-8-sig")
            except OSError as error:
                record = BadItem(f"It cannot be read: {error.strerror}.")
            except UnicodeDecodeError:
                record = BadItem("It is not in UTF-8.")
            yield Item(row, record, {there: cells.get(column) for column, there in carried.items()})


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
                self.types: Mapping[str, Any] = {each.name: _carried_type(each.type) for each in file.schema_arrow}
                self.plain: Sequence[str] = [each.name for each in file.schema_arrow if _is_plain(each.type)]
        except Exception as error:  # the library's own and the system's
            raise UnusableInput(f"{path}: is no parquet file that can be read ({error}).") from None

    def sample(self) -> list[Mapping[str, Any]]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path) as file:
            batch = next(file.iter_batches(_SAMPLE), None)
            return [] if batch is None else _to_records(batch)

    def items(self, start: int, columns: Sequence[str], carried: Mapping[str, str] = NOTHING) -> Iterator[Item]:
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
            wanted = list(dict.fromkeys([*columns, *carried]))
            for batch in file.iter_batches(1024, row_groups=groups, columns=wanted):
                for record in _to_records(batch):
                    if row >= start:
                        yield Item(row, record, {there: record[name] for name, there in carried.items()})
                    row += 1


def _is_plain(kind: Any) -> bool:
    """Whether values of an Arrow type are numbers, words or dates."""
    import pyarrow.types as types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    tests = (
        types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_string,
        types.is_large_string, types.is_date, types.is_timestamp,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _carried_type(kind: Any) -> Any:
    """The Arrow type in which a column of this type is carried over."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return kind.value_type
    # Python's datetime has no nanoseconds.
    return pa.timestamp("us", kind.tz) if pa.types.is_timestamp(kind) else kind


def _to_records(batch: Any) -> list[Mapping[str, Any]]:
    import pyarrow as pa

    for index, each in enumerate(batch.schema):
        if pa.types.is_timestamp(each.type):
            kind = _carried_type(each.type)
            batch = batch.set_column(index, pa.field(each.name, kind), batch.column(index).cast(kind, safe=False))
    records: list[Mapping[str, Any]] = batch.to_pylist()
    return records


class _Csv:
    """The rows of a CSV or TSV file under a line of column names (RFC 4180, UTF-8; other separators are found)."""

    types: Mapping[str, Any] = NOTHING

    def __init__(self, path: Path, cell: Callable[[str], Any]) -> None:
        self.base = path.parent
        self._path = path
        self._cell = cell
        self.total = max(0, _count_lines(path) - 1)
        self._delimiter = _find_delimiter(path)
        self._quoting = _find_quoting(path, self._delimiter)
        header = next(self._lines(), None)
        if not isinstance(header, list):
            raise UnusableInput(f"{path}: has no line of column names ({header or 'it is empty'}).")
        self.plain: Sequence[str] = [name.strip() or f"unnamed {number}" for number, name in enumerate(header, 1)]
        self.columns: Sequence[str] | None = self.plain
        if twice := [name for name, count in Counter(self.plain).items() if count > 1]:
            raise UnusableInput(f"{path}: two columns are called {twice[0]!r}.")

    def _lines(self) -> Iterator[list[str] | csv.Error]:
        with self._path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            lines = csv.reader(file, delimiter=self._delimiter, quoting=self._quoting)
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

    def sample(self) -> list[Mapping[str, Any]]:
        lines = itertools.islice(self._lines(), 1, 1 + _SAMPLE)
        width = len(self.plain)
        return [
            dict(zip(self.plain, line, strict=True))
            for line in lines
            if not isinstance(line, csv.Error) and len(line) == width
        ]

    def items(self, start: int, columns: Sequence[str], carried: Mapping[str, str] = NOTHING) -> Iterator[Item]:
        header = list(self.plain)
        indices = [(name, header.index(name)) for name in columns]
        carried_indices = [(there, header.index(name)) for name, there in carried.items()]
        for row, line in enumerate(itertools.islice(self._lines(), 1 + start, None), start):
            if isinstance(line, csv.Error):
                yield Item(row, BadItem(f"The row cannot be read ({line})."))
                continue
            values = {there: line[index] for there, index in carried_indices if index < len(line)}
            if len(line) == len(header):
                yield Item(row, {name: self._cell(line[index]) for name, index in indices}, values)
            else:
                yield Item(row, BadItem(f"The row has {len(line)} cells, not {len(header)}."), values)


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
        is_utf16 = lines[0].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding, where = ("utf-16", "") if is_utf16 else ("cp949", ", from cp949 for instance")
        raise UnusableInput(
            f"{path}: is not in UTF-8. Save it as UTF-8, or convert it{where}: "
            f"iconv -f {encoding} -t utf-8 {path.name} > new{path.suffix}"
        ) from None
    if path.suffix.lower() != ".csv" and "\t" in names:
        return "\t"
    widths = {}
    for delimiter in _DELIMITERS:
        head, first = (
            next(csv.reader([line], delimiter=delimiter), []) for line in (names, lines[1].decode(errors="replace"))
        )
        if len(head) > 1 and len(first) in (0, len(head)):
            widths[delimiter] = len(head)
    return max(widths, key=widths.__getitem__, default=",")


def _find_quoting(path: Path, delimiter: str) -> Any:
    """Whether quotation marks enclose cells; texts between tabs may contain single ones."""
    if delimiter != "\t":
        return csv.QUOTE_MINIMAL
    with path.open("rb") as file:
        sample = file.read(_SLICE)
    *whole, last = sample.decode(errors="replace").split("\n")
    lines = [line for line in (whole or [last]) if line]
    unbalanced = any(line.count('"') % 2 for line in lines) and len({line.count("\t") for line in lines}) == 1
    return csv.QUOTE_NONE if unbalanced else csv.QUOTE_MINIMAL


class _JsonLines:
    """The rows of a JSON Lines file; the first of them tell which columns there are to be carried over."""

    columns: Sequence[str] | None = None
    types: Mapping[str, Any] = NOTHING

    def __init__(self, path: Path) -> None:
        self.base = path.parent
        self._path = path
        self.total = _count_lines(path)
        plain = {
            name: None for row in self.sample() for name, value in row.items() if not isinstance(value, dict | list)
        }
        self.plain: Sequence[str] = tuple(plain)

    def sample(self) -> list[Mapping[str, Any]]:
        with self._path.open("rb") as file:
            records = [_record(line) for line in itertools.islice(file, _SAMPLE)]
        return [record for record in records if isinstance(record, dict)]

    def items(self, start: int, columns: Sequence[str], carried: Mapping[str, str] = NOTHING) -> Iterator[Item]:
        with self._path.open("rb") as file:
            for row, line in enumerate(itertools.islice(file, start, None), start):
                record = _record(line)
                if isinstance(record, BadItem):
                    yield Item(row, record)
                    continue
                values = {there: record.get(name) for name, there in carried.items()}
                missing = [name for name in columns if name not in record]
                lacks = BadItem(f"The line lacks {', '.join(missing)}.") if missing else None
                yield Item(row, lacks or {name: record[name] for name in columns}, values)


def _record(line: bytes) -> dict[str, Any] | BadItem:
    """The object on a line, or what is wrong with it."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadItem(f"The line is not valid JSON ({error}).")
    return record if isinstance(record, dict) else BadItem("The line is not a JSON object.")


def images_below(folder: Path) -> Iterator[Path]:
    """The images below a folder; see `files_below`."""
    return files_below(folder, IMAGE_SUFFIXES)


def printable(path: str) -> str:
    """A path with ? for bytes that are not UTF-8."""
    return path.encode(errors="replace").decode()


def files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The files below a folder with one of the suffixes, one folder after the other, in the order of names."""
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from files_below(Path(entry.path), suffixes)
        elif entry.name.lower().endswith(suffixes):
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
