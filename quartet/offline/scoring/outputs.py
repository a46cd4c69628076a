"""The output formats: JSON Lines, and Parquet if pyarrow is installed."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pydantic_core

from quartet.extras import needs
from quartet.offline.scoring.sources import UnusableInput
from service.tasks.base import Operation


class Format(Protocol):
    """An output format.

    Attributes:
        suffix: of file names.
    """

    suffix: str

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        """Encodes some rows, to be held until they are written."""

    def write(self, path: Path, encoded: Sequence[Any]) -> None:
        """Writes encoded rows to a file."""

    def join(self, parts: Sequence[Path], path: Path) -> None:
        """Concatenates files of this format into one."""


def format_of(path: Path, operation: Operation, facts: Mapping[str, str]) -> Format:
    """The format of a file, by its name.

    Args:
        path: ends with .parquet, .jsonl or .ndjson.
        operation: that the results come from.
        facts: metadata to store in the file, if the format can.

    Raises:
        UnusableInput: it ends otherwise.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        with needs("score"):
            from quartet.offline.scoring.parquet import Parquet
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
