"""Tables as people have them: CSV in any dialect and encoding, spreadsheets, JSON lines, parquet, the hub.

Whatever the format, a table is mapped into memory and read in parts, so that one larger than memory can be used.
"""

import csv
import dataclasses
import io
import json
import mmap
import re
import tempfile
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import openpyxl
import pyarrow as pa

from quartet.offline.machine import read_memory_mb
from training.data import hub
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.sources import files_below, find_encoding, kinds_of, locate, visible

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

DELIMITED = (".csv", ".tsv", ".tab", ".txt")
SUFFIXES = (*DELIMITED, ".json", ".jsonl", ".ndjson", ".xlsx", ".parquet")
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMERIC = r"[+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?"
_SAMPLE = 1 << 20
_ROWS = 10_000
# Bytes that the libraries and a network take without any data.
_LIBRARIES = 1_000_000_000
# Characters of a cell.
_LONGEST_CELL = 100_000_000

Cells = Iterator[tuple[int, Sequence[str | None]]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it was written.

    Attributes:
        data: the columns, mapped into memory: text formats have strings and None, parquet and the hub types.
        locate: what to call a row in messages; by default its index.
        classes: the names of class labels that are stored as numbers, by column.
        delimiter: of a CSV file, otherwise empty.
    """

    name: str
    data: pa.Table = field(repr=False)
    locate: Callable[[int], str] | None = field(default=None, repr=False)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    delimiter: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.data.column_names)

    @property
    def rows(self) -> int:
        return int(self.data.num_rows)

    def parts(self, column: str) -> Iterator[pa.Array]:
        """The values of a column, in order, a part at a time."""
        return iter(self.data.column(column).chunks)

    def values(self, column: str) -> Iterator[Any]:
        return chain.from_iterable(part.to_pylist() for part in self.parts(column))

    def where(self, row: int) -> str:
        return self.locate(row) if self.locate else f"{self.name} row {row}"

    def take(self, rows: npt.NDArray[np.int64]) -> "Table":
        """Some of the rows, by their indices in ascending order, in memory."""
        taken, start = [], 0
        for part in self.data.to_batches():  # one by one, so that no column is ever in memory as a whole
            first, last = np.searchsorted(rows, (start, start + len(part)))
            taken.append(part.take(pa.array(rows[first:last] - start)))
            start += len(part)
        data = pa.Table.from_batches(taken, self.data.schema)
        return dataclasses.replace(self, data=data, locate=lambda row: self.where(int(rows[row])))


def joined(tables: Sequence[Table]) -> Table:
    """Tables with the same columns as one, in the order given."""
    starts = [0, *accumulate(table.rows for table in tables)]

    def locate(row: int) -> str:
        index = bisect_right(starts, row) - 1
        return tables[index].where(row - starts[index])

    data = pa.concat_tables([table.data.select(list(tables[0].columns)) for table in tables])
    return dataclasses.replace(tables[0], data=data, locate=locate)


def read_tables(
    source: str,
    hint: str,
    inspection: Inspection,
    problems: Problems,
    *,
    needs_train: bool = True,
    encoding: str | None = None,
) -> dict[str, Table]:
    """Reads a table, or one for each split, and notes how, and which rows do not fit their header.

    The source is a hub id, a URL, an archive, a file, or a folder with one file or one for each split (with `train`,
    `validation` or `test` in its name; one of them is for training if `needs_train`). The encoding of text files is
    found by default.

    Raises:
        DataError: nothing is there, a file cannot be parsed, or it is not clear which one is meant.
    """
    path = locate(source, hint)
    if path is None or (path.is_dir() and any(path.rglob("*.parquet"))):
        loaded = hub.load(source, str(path or source))
        return {name: _from_dataset(f"{source} [{name}]", part) for name, part in loaded.items()}
    files = {"train": path}
    if path.is_dir():
        found = [file for file in visible(path) if file.suffix.lower() in SUFFIXES and file.is_file()]
        named = [(split, file) for file in found if (split := split_of(file.stem))]
        files = {"train": found[0]} if len(found) == 1 else dict(named)
        if not files or (needs_train and "train" not in files) or (len(found) > 1 and len(files) < len(named)):
            if not found:
                raise DataError(f"{source}: holds no table or texts, but {kinds_of(files_below(path))}. {hint}")
            listed = ", ".join(file.name for file in found[:10])
            what = f"{source}: it is not clear which file is meant (tables: {listed})"
            raise DataError(f"{what}. Give one of them, or name them train, validation and test.")
    if hub.is_image(path):
        raise DataError(f"{source}: is a single image. Give the folder that holds the images.")
    if unknown := [file.suffix for file in files.values() if file.suffix.lower() not in SUFFIXES]:
        more = ": save it as .xlsx or CSV" if unknown[0].lower() in (".xls", ".ods", ".numbers") else ""
        raise DataError(f"{source}: ends in {unknown[0]!r}{more}; {', '.join(SUFFIXES)} are read.")
    return {split: read_file(file, inspection, problems, encoding=encoding) for split, file in files.items()}


def read_file(
    path: Path, inspection: Inspection, problems: Problems, *, encoding: str | None = None, rows: int | None = None
) -> Table:
    """Reads up to `rows` rows of a single file with one of the `SUFFIXES`, or all; see `read_tables`."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        (part,) = hub.load(str(path), "parquet", data_files=str(path)).values()
        return _from_dataset(path.name, part)
    if suffix == ".xlsx":
        return _read_spreadsheet(path, rows, inspection, problems)
    encoding, guessed = find_encoding(path, encoding)
    how = [f"read as {encoding} (found; --encoding overrides it)"] if guessed else []
    if suffix in DELIMITED:
        return _read_delimited(path, encoding, rows, how, inspection, problems)
    if how:
        inspection.notes.append(f"{path.name}: {how[0]}")
    return _read_json(path, encoding, problems)


def split_of(name: str) -> str | None:
    """The split that a file or folder name contains as a word, such as `ratings_train.txt`."""
    words = [word.rstrip("0123456789") for word in re.split(r"[\W_]+", name.lower())]
    known = [word for word in words if word in (*hub.SPLITS, *hub.ALIASES)]
    return hub.ALIASES.get(known[-1], known[-1]) if known else None


def stored(
    name: str, header: Sequence[str], rows: Iterable[tuple[int, Sequence[str | None]]], delimiter: str = ""
) -> Table:
    """A table of text cells, from lines and their cells; it is kept in an unnamed file and mapped into memory."""
    names = tuple(column.strip() or f"unnamed {number}" for number, column in enumerate(header, start=1))
    _check_names(name, names)
    schema = pa.schema([(column, pa.large_string()) for column in names])
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
        data = pa.ipc.open_file(pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))).read_all()
    return Table(name, data, lambda row: f"{name}:{lines[row]}", delimiter=delimiter)


def available_memory() -> int:
    """Bytes that this process may use: those of the machine, of its container or of its own limits."""
    total, container = read_memory_mb()
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)] if resource else []
    return min([10**6 * (container or total), *(limit for limit in limits if limit != resource.RLIM_INFINITY)])


def check_fits(source: str, items: str, count: int, each: float) -> None:
    """Raises DataError, which says how many would fit, if items of `each` bytes do not fit into memory."""
    room = max(0, available_memory() - _LIBRARIES)
    if count * each > room:
        fit = int(room / each)
        rounded = fit - fit % 10 ** max(0, len(str(fit)) - 2)
        raise DataError(
            f"{source}: {count:,} {items} take about {count * each / 1e9:.1f} GB in a training, and there are "
            f"{room / 1e9:.1f} GB for them: --limit {rounded} trains on so many of them, drawn at random."
        )


def _from_dataset(name: str, part: datasets.Dataset) -> Table:
    names = tuple(column.strip() for column in part.column_names)
    _check_names(name, names)
    kinds = zip(names, part.features.values(), strict=True)
    classes = {name: tuple(kind.names) for name, kind in kinds if isinstance(kind, datasets.ClassLabel) and kind.names}
    return Table(name, part.data.table.rename_columns(list(names)), classes=classes)


def _read_delimited(
    path: Path, encoding: str, most: int | None, how: list[str], inspection: Inspection, problems: Problems
) -> Table:
    with path.open(encoding=encoding, newline="") as file:
        sample = file.read(_SAMPLE)
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else _delimiter(sample)
    # Texts between tabs may contain single quotation marks: all lines have as many tabs, and quotes are unbalanced.
    lines = [line for line in sample.splitlines()[:-1] or sample.splitlines() if line]
    unbalanced = any(line.count('"') % 2 for line in lines) and len({line.count("\t") for line in lines}) == 1
    quoting = csv.QUOTE_NONE if delimiter == "\t" and unbalanced else csv.QUOTE_MINIMAL
    if delimiter != ",":
        how = [*how, f"separated by {_DELIMITERS[delimiter]}"]
    if how:
        inspection.notes.append(f"{path.name}: {', '.join(how)}")

    def rows() -> Cells:
        with path.open(encoding=encoding, newline="") as file:
            options: Any = {"delimiter": delimiter, "quoting": quoting}
            reader = csv.reader((line.replace("\0", "") for line in file), **options)
            first_line = 1  # of a row, which may contain line ends between quotes
            limit = csv.field_size_limit(_LONGEST_CELL)  # of the whole process
            try:
                for cells in reader:
                    yield first_line, cells
                    first_line = reader.line_num + 1
            except csv.Error as error:
                raise DataError(f"{path}:{reader.line_num}: cannot be read as a table: {error}") from error
            finally:
                csv.field_size_limit(limit)

    return _below_header(path, rows(), most, problems, delimiter)


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


def _read_spreadsheet(path: Path, most: int | None, inspection: Inspection, problems: Problems) -> Table:
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise DataError(f"{path}: cannot be read as a spreadsheet: {error}") from error
    sheet, *others = book.worksheets
    if others:
        names = ", ".join(repr(other.title) for other in others)
        inspection.notes.append(f"{path.name}: only the first sheet, {sheet.title!r}, is read, not {names}")

    def rows() -> Cells:
        width = 0
        for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
            width = max(width, len(cells))  # the library leaves out empty cells at the end
            yield line, [_text_of(cell) for cell in cells] + [None] * (width - len(cells))

    table = _below_header(path, rows(), most, problems)
    book.close()
    return table


def _below_header(path: Path, rows: Cells, most: int | None, problems: Problems, delimiter: str = "") -> Table:
    """The rows below the names of the columns that have as many cells; the others are problems, unless empty."""
    names = [cell or "" for cell in next((cells for _, cells in rows if any(cells)), ())]
    while names and not names[-1].strip():  # spreadsheet programs leave empty columns behind
        names.pop()
    if not names:
        raise DataError(f"{path}: is empty.")
    if sum(bool(re.fullmatch(_NUMERIC, name.strip())) for name in names) * 2 > len(names):
        values = f"the first line holds values ({', '.join(names[:3])}, …) and not the names of the columns"
        raise DataError(f"{path}: {values}: put a line of names above it.")
    width = len(names)

    def fitting() -> Cells:
        for line, cells in islice(rows, most):
            if any(cells) and len(cells) >= width and not any(cells[width:]):
                yield line, cells[:width]
            elif any(cells):
                problems.add(f"{path.name}:{line}", f"has {len(cells)} cells, not {width}")

    return stored(path.name, names, fitting(), delimiter)


def _read_json(path: Path, encoding: str, problems: Problems) -> Table:
    columns = list(dict.fromkeys(name for _, record in _records(path, encoding, Problems()) for name in record))
    if not columns:
        raise DataError(f"{path}: holds no JSON objects; write one on each line, or a list of them.")
    records = _records(path, encoding, problems)
    return stored(path.name, columns, ((line, [_text_of(record.get(c)) for c in columns]) for line, record in records))


def _records(path: Path, encoding: str, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, each with its line or its number in the list."""
    with path.open(encoding=encoding) as file:
        is_list = file.read(_SAMPLE).lstrip().startswith("[")
        file.seek(0)
        try:
            items: Iterable[Any] = json.load(file) if is_list else file
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


def _text_of(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, float | date | time):  # JSON has other words for infinity and NaN
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _check_names(where: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: two columns have the same name, apart from spaces: {', '.join(twice)}.")
