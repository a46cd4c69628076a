"""The formats that results are written in: JSON Lines, and Parquet where pyarrow is installed."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pydantic_core

from quartet.extras import needs
from quartet.offline.scoring.sources import UnusableInput
from service.tasks.base import Operation


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
