"""Tables as people have them: CSV in any dialect and encoding, spreadsheets, JSON lines, parquet, the hub.

Whatever the format, a table is read a column at a time and in parts, so that one larger than memory can be used.
"""

import csv
import dataclasses
import io
import json
import mmap
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import openpyxl
import pyarrow as pa

from training import hub
from training.data import DataError, Inspection
from training.encodings import find_encoding
from training.inspection import Problems
from training.sources import is_clutter, locate

DELIMITED = (".csv", ".tsv", ".tab", ".txt")
JSON = (".json", ".jsonl", ".ndjson")
SUFFIXES = (*DELIMITED, *JSON, ".xlsx", ".parquet")

_ROWS = 10_000
_IN_MEMORY = 256 << 20
_LARGEST_CELL = 100_000_000
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_NUMERIC = r"[+-]?[0-9]+([.,][0-9]+)*([eE][+-]?[0-9]+)?"
_ALIASES = {"valid": "validation", "val": "validation", "dev": "validation"}

Cell = str | int | float | bool | None


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
        places: what to call each row in messages, if neither line nor row says it.
        origins: the tables that were joined into this one, in order.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    parts: Callable[[str], Iterator[pa.Array]] = field(repr=False)
    lines: npt.NDArray[np.int64] | None = None
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    delimiter: str = ""
    places: Sequence[str] | None = field(default=None, repr=False)
    origins: "tuple[Table, ...]" = ()

    def values(self, column: str) -> Iterator[Any]:
        """The values of a column, in order."""
        for part in self.parts(column):
            yield from part.to_pylist()

    def where(self, row: int) -> str:
        """Where a row is, for messages: the file and its line, or the row counted from 0."""
        for table in self.origins:
            if row < table.rows:
                return table.where(row)
            row -= table.rows
        if self.places is not None:
            return self.places[row]
        return f"{self.name} row {row}" if self.lines is None else f"{self.name}:{self.lines[row]}"


def read_tables(
    source: str,
    hint: str,
    inspection: Inspection,
    problems: Problems,
    *,
    encoding: str | None = None,
) -> dict[str, Table]:
    """Reads a table, or one for each split.

    Args:
        source: a hub id, a URL, an archive, a file, or a folder with one file or one for each split (with `train`,
            `validation` or `test` in its name).
        hint: what to give instead of something that does not exist.
        inspection: gets how the files were read.
        problems: gets the rows that do not fit their header.
        encoding: of text files; found by default.

    Raises:
        DataError: nothing is there, a file cannot be parsed, or it is not clear which one is meant.
    """
    path = locate(source, hint)
    if path is None:
        return _loaded(source, hub.load(source, source))
    if path.is_dir():
        if any(path.rglob("*.parquet")):
            return _loaded(source, hub.load(source, str(path)))
        files = _files(source, path)
    else:
        files = {"train": path}
    tables = {}
    for split, file in files.items():
        table = read_file(file, inspection, problems, encoding=encoding)
        if table is None:
            more = ": save it as .xlsx or CSV" if file.suffix.lower() in (".xls", ".ods", ".numbers") else ""
            raise DataError(f"{source}: ends in {file.suffix!r}{more}; {', '.join(SUFFIXES)} are read.")
        tables[split] = table
    return tables


def read_file(
    path: Path,
    inspection: Inspection,
    problems: Problems,
    *,
    encoding: str | None = None,
    rows: int | None = None,
) -> Table | None:
    """Reads a single file; see `read_tables`.

    Args:
        path: of the file.
        inspection: gets how it was read.
        problems: gets the rows that do not fit their header.
        encoding: of a text file; found by default.
        rows: the most rows to read; by default all.

    Returns:
        None for a file of another kind.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        part = next(iter(hub.load(str(path), "parquet", data_files=str(path)).values()))
        return _of(path.name, part)
    if suffix == ".xlsx":
        return _spreadsheet(path, inspection, problems, rows)
    if suffix in JSON:
        return _json(path, problems, encoding, inspection)
    if suffix in DELIMITED:
        return _delimited(path, problems, encoding, inspection, rows)
    return None


def joined(tables: Sequence[Table]) -> Table:
    """Tables with the same columns as one, in the order given."""
    first = tables[0]
    if len(tables) == 1:
        return first

    def parts(name: str) -> Iterator[pa.Array]:
        return chain.from_iterable(table.parts(name) for table in tables)

    rows = sum(table.rows for table in tables)
    return dataclasses.replace(first, rows=rows, parts=parts, lines=None, origins=tuple(tables))


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of, such as `ratings_train.txt`."""
    words = "".join(character if character.isalnum() else " " for character in name.lower()).split()
    words = [word.rstrip("0123456789") for word in words]
    known = [word for word in words if word in (*hub.SPLITS, *_ALIASES)]
    return _ALIASES.get(known[-1], known[-1]) if known else None


def _files(source: str, folder: Path) -> dict[str, Path]:
    """The file of each split."""
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not is_clutter(p) and p.is_file())
    named = [(split_of(path.stem), path) for path in found]
    if len(found) == 1:
        return {"train": found[0]}
    splits = {split: path for split, path in named if split}
    if "train" not in splits or len(splits) < sum(split is not None for split, _ in named):
        listed = ", ".join(path.name for path in found[:10]) or "none"
        raise DataError(
            f"{source}: it is not clear which file is meant (tables: {listed}). Give one of them, or name them "
            "train, validation and test."
        )
    return splits


def _loaded(source: str, loaded: Mapping[str, datasets.Dataset]) -> dict[str, Table]:
    return {_ALIASES.get(name, name): _of(f"{source} [{name}]", part) for name, part in loaded.items()}


def _of(name: str, part: datasets.Dataset) -> Table:
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


def _check_names(where: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{where}: two columns have the same name, apart from spaces: {', '.join(twice)}.")


def _stored(name: str, header: Sequence[str], rows: Iterable[tuple[int, Sequence[str | None]]], **more: Any) -> Table:
    """A table of text cells, from rows with their lines; a large one is kept in an unnamed file.

    Args:
        name: of the file.
        header: the columns' names.
        rows: line and cells.
        more: of the table.
    """
    names = tuple(column.strip() or f"unnamed {number}" for number, column in enumerate(header, start=1))
    _check_names(name, names)
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


def _fitting(
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


def _delimited(
    path: Path,
    problems: Problems,
    encoding: str | None,
    inspection: Inspection,
    most: int | None,
) -> Table:
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
    fitting = _fitting(path.name, len(names), islice(every, most), problems)
    return _stored(path.name, names, fitting, delimiter=delimiter)


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


def _json(path: Path, problems: Problems, encoding: str | None, inspection: Inspection) -> Table:
    encoding, guessed = find_encoding(path, encoding)
    if guessed:
        inspection.notes.append(f"{path.name}: read as {encoding} (found; --encoding overrides it)")
    columns = list(dict.fromkeys(name for _, record in _records(path, encoding, Problems()) for name in record))
    if not columns:
        raise DataError(f"{path}: holds no JSON objects; write one on each line, or a list of them.")
    rows = (
        (line, [_text_of(record.get(name)) for name in columns]) for line, record in _records(path, encoding, problems)
    )
    return _stored(path.name, columns, rows)


def _records(path: Path, encoding: str, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in a file of JSON lines or in a JSON list, each with its line (or number)."""
    with path.open(encoding=encoding) as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        file.seek(0)
        if start == "[":
            try:
                document = json.load(file)
            except ValueError as error:
                raise DataError(f"{path}: is not valid JSON: {error}") from error
            numbered: Iterator[tuple[int, Any]] = enumerate(document, start=1)
        else:
            numbered = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        for number, item in numbered:
            try:
                record = json.loads(item) if isinstance(item, str) else item
            except ValueError as error:
                problems.add(f"{path.name}:{number}", f"is not valid JSON: {error}")
                continue
            if isinstance(record, dict):
                yield number, record
            else:
                problems.add(f"{path.name}:{number}", "is not a JSON object")


def _text_of(value: Any) -> str | None:
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


def _spreadsheet(path: Path, inspection: Inspection, problems: Problems, most: int | None) -> Table:
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # the library raises whatever its parsers raise
        raise DataError(f"{path}: cannot be read as a spreadsheet: {error}") from error
    sheet = book.worksheets[0]
    if len(book.worksheets) > 1:
        others = ", ".join(repr(other.title) for other in book.worksheets[1:])
        inspection.notes.append(f"{path.name}: only the first sheet, {sheet.title!r}, is read, not {others}")
    every = (
        (line, [_text_of(value) for value in cells])
        for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1)
    )
    header = next((cells for _, cells in every if any(cells)), None)
    if header is None:
        raise DataError(f"{path}: its first sheet, {sheet.title!r}, is empty.")
    while header and not header[-1]:
        header.pop()
    names = [cell or "" for cell in header]
    padded = ((line, cells + [None] * (len(names) - len(cells))) for line, cells in islice(every, most))
    table = _stored(path.name, names, _fitting(path.name, len(names), padded, problems))
    book.close()
    return table
