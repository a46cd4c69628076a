"""Results in Parquet; the schema follows from the type of the operation's results."""

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from service.tasks.base import Operation

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


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
