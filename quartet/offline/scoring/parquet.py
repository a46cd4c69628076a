"""Results in Parquet; the schema follows from the type of the operation's results."""

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from quartet.offline.flat import flatten
from quartet.offline.scoring.outputs import Layout, fields_of, to_text
from service.tasks.base import Operation

_PLAIN = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


class Parquet:
    """A table with a column for every field of a result, and for the likeliest label."""

    suffix = ".parquet"

    def __init__(self, operation: Operation, facts: Mapping[str, str], layout: Layout) -> None:
        self._operation, self._facts, self._layout = operation, facts, layout
        fields = []
        for name, annotation in fields_of(operation, layout).items():
            if name == "labels":
                fields += [pa.field("label", pa.string()), pa.field("probability", pa.float64())]
            fields.append(pa.field("mse" if name == "error" else name, _arrow_type(annotation)))
        self.names = ("row", *(each.name for each in fields), "error")
        carried = [pa.field(name, kind or pa.string()) for name, kind in layout.carried.items()]
        self._texts = [name for name, kind in layout.carried.items() if kind is None]
        columns = [pa.field("row", pa.int64(), nullable=False), *carried, *fields, pa.field("error", pa.string())]
        self.schema = pa.schema(columns, metadata={f"quartet.{name}": value for name, value in facts.items()})

    def carrying(self, carried: Mapping[str, Any]) -> Self:
        return type(self)(self._operation, self._facts, Layout(self._layout.labels, self._layout.options, carried))

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        flat = [flatten(row) for row in rows]
        for row in flat:
            row.update((name, to_text(row.get(name))) for name in self._texts)
        return pa.RecordBatch.from_pylist(flat, schema=self.schema)

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
