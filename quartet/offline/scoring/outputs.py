"""The output formats: JSON Lines, CSV and TSV, and Parquet if pyarrow is installed."""

import csv
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, get_args

import pydantic_core

from quartet.extras import needs
from quartet.offline.flat import LIKELIEST, OF_BOXES, flatten, numbered, spread
from quartet.offline.scoring.sources import UnusableInput
from service.tasks.base import Operation

# Fields of results that are only there with an option.
_OPTIONAL = {"label_set": "coverage", "words": "explain"}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of an output depend on.

    Attributes:
        labels: how many labels the model has.
        options: of the operation, as given.
        carried: columns of the input that are carried over, with their Arrow types; None for text.
    """

    labels: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    carried: Mapping[str, Any] = field(default_factory=dict)


class Format(Protocol):
    """An output format.

    Attributes:
        suffix: of file names.
        names: of the columns that are not carried over.
    """

    suffix: str

    @property
    def names(self) -> Sequence[str]: ...

    def carrying(self, carried: Mapping[str, Any]) -> Self:
        """The same format with columns that are carried over; see `Layout`."""

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Encodes some rows, to be held until they are written."""

    def write(self, path: Path, encoded: Sequence[Any]) -> None:
        """Writes encoded rows to a file."""

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Concatenates files of this format into one."""


def format_of(path: Path, operation: Operation, facts: Mapping[str, str], layout: Layout) -> Format:
    """The format of a file, by its name.

    Args:
        path: ends with .parquet, .csv, .tsv, .jsonl or .ndjson.
        operation: that the results come from.
        facts: metadata to store in the file, if the format can.
        layout: of the columns.

    Raises:
        UnusableInput: it ends otherwise, or the format cannot hold the results.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        with needs("score"):
            from quartet.offline.scoring.parquet import Parquet
        return Parquet(operation, facts, layout)
    if suffix in _DELIMITERS:
        return Delimited(operation, layout, suffix)
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(operation, layout)
    raise UnusableInput(f"{path}: the output must be a .parquet, .csv, .tsv, .jsonl or .ndjson file.")


def fields_of(operation: Operation, layout: Layout) -> dict[str, Any]:
    """The fields of a result that a model of this layout can have, with their types; the name of a file comes first."""
    result = get_args(operation.answer.model_fields["results"].annotation)[0]
    absent = {name for name, option in _OPTIONAL.items() if option not in layout.options}
    if {"labels", "value"} <= result.model_fields.keys():  # of a class or of a number
        absent.add("value" if layout.labels else "labels")
    # A subclass states its own fields last, and one of them is the name.
    names = sorted(result.model_fields, key=lambda name: name != "name")
    return {name: result.model_fields[name].annotation for name in names if name not in absent}


class JsonLines:
    """An object on each line."""

    suffix = ".jsonl"

    def __init__(self, operation: Operation | None = None, layout: Layout = Layout()) -> None:
        fields = fields_of(operation, layout) if operation else {}
        self.names = ("row", "mse", *LIKELIEST, *fields, "error")

    def carrying(self, carried: Mapping[str, Any]) -> Self:  # noqa: ARG002 - a line names its own columns
        return self

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        lines = (pydantic_core.to_json(flatten(row), inf_nan_mode="null", bytes_mode="base64") for row in rows)
        return b"".join(line + b"\n" for line in lines)

    def write(self, path: Path, encoded: Sequence[bytes]) -> None:
        with path.open("wb") as file:
            file.writelines(encoded)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        _concatenate(b"", parts, path)


class Delimited:
    """CSV or TSV in UTF-8 with a line of column names (RFC 4180, but lines end with a line feed alone).

    Each cell is a number, a word, or JSON. The boxes of an image have a row each; an image without any has one row.
    Pictures are left out.

    Args:
        operation: that the results come from.
        layout: of the columns.
        suffix: of file names: .csv or .tsv.

    Raises:
        UnusableInput: results are nothing but pictures.
    """

    def __init__(self, operation: Operation, layout: Layout, suffix: str) -> None:
        self.suffix = suffix
        self._operation, self._layout = operation, layout
        # As many labels as were asked for.
        self._labels = min(int(layout.options.get("top_k", 1)), layout.labels)
        fields = fields_of(operation, layout)
        names: list[str] = []
        for name in fields:
            if name == "labels":
                names += [column for number in range(1, self._labels + 1) for column in numbered(number)]
            elif name == "boxes":
                names += OF_BOXES
            elif name not in ("png", "counts"):
                names.append("mse" if name == "error" else name)
        if not names:
            raise UnusableInput(f"{operation.name} answers pictures, which no {suffix} holds: use .jsonl or .parquet.")
        self._has_boxes = "boxes" in fields
        self.names = ("row", *names, "error")
        self._columns = ("row", *layout.carried, *names, "error")

    def carrying(self, carried: Mapping[str, Any]) -> Self:
        layout = Layout(self._layout.labels, self._layout.options, carried)
        return type(self)(self._operation, layout, self.suffix)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        lines: list[str] = []
        writer = self._writer(lines)
        for row in rows:
            for flat in spread(row, boxes=self._has_boxes):
                writer.writerow([_cell(flat.get(name)) for name in self._columns])
        return "".join(lines).encode(errors="replace")

    def write(self, path: Path, encoded: Sequence[bytes]) -> None:
        with path.open("wb") as file:
            file.writelines(encoded)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        lines: list[str] = []
        self._writer(lines).writerow(self._columns)
        _concatenate("".join(lines).encode(), parts, path)

    def _writer(self, lines: list[str]) -> Any:
        return csv.writer(_Lines(lines), delimiter=_DELIMITERS[self.suffix], lineterminator="\r\n")


class _Lines:
    """Where the csv module writes rows: it quotes every kind of line end if rows end with both characters."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, line: str) -> None:
        self._lines.append(line.removesuffix("\r\n") + "\n")


def to_text(value: Any) -> str | None:
    """A value in a column of text: words as they are, anything else as JSON; None if it is missing."""
    if value is None or isinstance(value, str):
        return value
    return pydantic_core.to_json(value, inf_nan_mode="null", bytes_mode="base64").decode()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "" if math.isnan(value) else value
    # JSON has quotation marks around dates.
    return value if isinstance(value, str) else (to_text(value) or "").strip('"')


def _concatenate(head: bytes, parts: Sequence[Path], path: Path) -> None:
    with path.open("wb") as file:
        file.write(head)
        for part in parts:
            with part.open("rb") as opened:
                shutil.copyfileobj(opened, file, 1 << 20)
