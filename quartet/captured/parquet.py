"""Captured images as rows of Parquet, with the columns `image` and `label` as the hub has them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_SCHEMA = pa.schema(
    {
        "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "label": pa.string(),
        "request": pa.string(),
        "index": pa.int64(),
        "time": pa.float64(),
        "version": pa.string(),
    }
)
_ROWS = 100


def write(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Writes rows, a hundred at a time; columns that are not listed here are left out."""
    with pq.ParquetWriter(path, _SCHEMA) as writer:
        waiting: list[Mapping[str, Any]] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == _ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, _SCHEMA))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, _SCHEMA))
