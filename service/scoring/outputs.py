"""How rows of results are written: parquet, whose schema follows from what the operation answers, or JSON lines."""

import shutil
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
import pydantic_core
from pydantic import BaseModel

from service.scoring.sources import UnusableInput
from service.tasks.base import Operation

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


class Format(Protocol):
    """A format of files.

    Attributes:
        suffix: of their names.
    """

    suffix: str

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Some rows as they are kept until they are written."""

    def write(self, path: Path, encoded: Sequence[Any]) -> None:
        """Writes a file of its own."""

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Writes what some files hold into one."""


def format_of(path: Path, operation: Operation, facts: Mapping[str, str]) -> Format:
    """The format that a file's name asks for.

    Args:
        path: ends with .parquet, .jsonl or .ndjson.
        operation: what the results are of.
        facts: what a file should say of itself, where it can.

    Raises:
        UnusableInput: it ends otherwise.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return Parquet(operation, facts)
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines()
    raise UnusableInput(f"{path}: the output must be a .parquet, .jsonl or .ndjson file.")


class JsonLines:
    """An object on each line."""

    suffix = ".jsonl"

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        return b"".join(pydantic_core.to_json({**row, "error": row.get("error")}) + b"\n" for row in rows)

    def write(self, path: Path, encoded: Sequence[bytes]) -> None:
        with path.open("wb") as file:
            file.writelines(encoded)

    def join(self, parts: Sequence[Path], path: Path) -> None:
        with path.open("wb") as file:
            for part in parts:
                with part.open("rb") as opened:
                    shutil.copyfileobj(opened, file, 1 << 20)


class Parquet:
    """A table with a column for every field of a result."""

    suffix = ".parquet"

    def __init__(self, operation: Operation, facts: Mapping[str, str]) -> None:
        result = get_args(operation.answer.model_fields["results"].annotation)[0]
        fields = [pa.field("row", pa.int64(), nullable=False), *_fields(result), pa.field("error", pa.string())]
        self.schema = pa.schema(fields, metadata={f"quartet.{name}": value for name, value in facts.items()})

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        return pa.RecordBatch.from_pylist(list(rows), schema=self.schema)

    def write(self, path: Path, encoded: Sequence[pa.RecordBatch]) -> None:
        pq.write_table(pa.Table.from_batches(encoded, self.schema), path, compression="zstd")

    def join(self, parts: Sequence[Path], path: Path) -> None:
        with pq.ParquetWriter(path, self.schema, compression="zstd") as writer:
            for part in parts:
                writer.write_table(pq.read_table(part, schema=self.schema))


def _fields(model: type[BaseModel]) -> list[pa.Field]:
    return [pa.field(name, _arrow_type(field.annotation)) for name, field in model.model_fields.items()]


def _arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field of an answer."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        (inner,) = (each for each in arguments if each is not types.NoneType)
        return _arrow_type(inner)
    if origin is list:
        return pa.list_(_arrow_type(arguments[0]))
    if origin is dict:
        return pa.map_(_arrow_type(arguments[0]), _arrow_type(arguments[1]))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pa.struct(_fields(annotation))
    raise TypeError(f"a result of type {annotation} has no place in a table")
