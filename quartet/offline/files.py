"""The files that are given to `quartet predict`, as groups of items: images, texts, rows of tables, documents."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from quartet.offline.scoring.sources import (
    DELIMITED,
    NOTHING,
    TABLE_SUFFIXES,
    BadItem,
    Item,
    Source,
    UnusableInput,
    images_below,
    open_source,
)

STDIN = Path("-")
# What an operation reads.
Kind: TypeAlias = Literal["image", "text", "row"]


@dataclass(frozen=True, slots=True)
class Group:
    """Items that are read in the same way.

    Attributes:
        name: of the file they are in.
        source: yields them; None if the file is a request body in JSON, or cannot be used.
        document: the request body.
        problem: why the file cannot be used.
        cells: whether values are the text of cells.
    """

    name: str
    source: Source | None = None
    document: bytes | None = None
    problem: str | None = None
    cells: bool = False

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of answers with the name of its file before it."""
        if not isinstance(self.source, _Files):
            return {"file": self.name, **row}
        rest = {name: value for name, value in row.items() if name not in ("row", "name")}
        return {"file": str(self.source.paths[row["row"]]), **rest}

    def failure(self, problem: str) -> dict[str, Any]:
        """The row of a file that cannot be used."""
        return {"file": self.name, "error": problem}


class _Files:
    """Files of one item each: images or texts.

    Args:
        paths: of the files.
        kind: of the items.

    Attributes:
        total, columns, plain, types, base: as `Source` has them.
    """

    plain: Sequence[str] = ()
    types: Mapping[str, Any] = NOTHING

    def __init__(self, paths: Sequence[Path], kind: Kind) -> None:
        self.paths = paths
        self.total = len(paths)
        self.columns: Sequence[str] | None = None
        self.base = Path()
        self._read = _read_text if kind == "text" else _read_image

    def sample(self) -> list[Mapping[str, Any]]:
        return []

    def items(
        self,
        start: int,
        columns: Sequence[str],
        carried: Mapping[str, str] = NOTHING,  # noqa: ARG002 - nothing is carried over
    ) -> Iterator[Item]:
        (column,) = columns
        for row, path in enumerate(self.paths[start:], start):
            try:
                yield Item(row, {column: self._read(path)})
            except OSError as error:
                yield Item(row, BadItem(f"It cannot be read: {error.strerror}."))
            except UnicodeDecodeError:
                yield Item(row, BadItem("It is not UTF-8."))


def _read_text(path: Path) -> str:
    return _stdin().decode("utf-8-sig") if path == STDIN else path.read_text("utf-8-sig")


def _read_image(path: Path) -> bytes | str:
    """The bytes of an image from standard input, or its path: files are read when it is their turn."""
    return _stdin() if path == STDIN else str(path)


def _stdin() -> bytes:
    return sys.stdin.buffer.read()


def groups_of(paths: Sequence[Path], kind: Kind, operation: str, cell: Callable[[str], Any]) -> Iterator[Group]:
    """Groups files and folders; adjacent files of one item each form a group, to share batches.

    Args:
        paths: `-` stands for standard input.
        kind: what the operation reads.
        operation: its name, for messages.
        cell: parses a cell of a CSV file.
    """
    single: list[Path] = []
    for path in paths:
        suffix = path.suffix.lower()
        if kind == "row" and path == STDIN:
            yield from _group_of_stdin(cell)
        elif (suffix in TABLE_SUFFIXES or (kind != "image" and suffix == ".json")) and not path.is_dir():
            yield from _together(single, kind)
            yield _group_of_file(path, cell)
        elif kind == "row":
            tables = ", ".join(TABLE_SUFFIXES)
            yield Group(str(path), problem=f"{operation} reads tables: {tables}, .json or - for standard input.")
        elif path.is_dir():
            found = sorted(path.rglob("*.txt")) if kind == "text" else list(images_below(path))
            if found:
                single += found
            else:
                yield from _together(single, kind)
                yield Group(str(path), problem=f"The folder holds no {'texts (.txt)' if kind == 'text' else 'images'}.")
        else:
            single.append(path)
    yield from _together(single, kind)


def _group_of_file(path: Path, cell: Callable[[str], Any], name: str | None = None) -> Group:
    name = name or str(path)
    try:
        if path.suffix.lower() == ".json":
            return Group(name, document=path.read_bytes())
        return Group(name, source=open_source(path, path, cell), cells=path.suffix.lower() in DELIMITED)
    except UnusableInput as error:
        return Group(name, problem=str(error))
    except OSError as error:
        return Group(name, problem=f"It cannot be read: {error.strerror}.")


def _group_of_stdin(cell: Callable[[str], Any]) -> Iterator[Group]:
    """A table or document from standard input, kept in a file, since tables are read more than once."""
    data = _stdin()
    suffix = ".csv" if data.lstrip()[:1] not in (b"{", b"[") else ".json" if _is_document(data) else ".jsonl"
    with tempfile.TemporaryDirectory(prefix="quartet-") as folder:
        path = Path(folder) / f"stdin{suffix}"
        path.write_bytes(data)
        yield _group_of_file(path, cell, str(STDIN))


def _is_document(data: bytes) -> bool:
    """Whether JSON is one request body, such as `{"rows": […]}`, not a row on each line."""
    try:
        document = json.loads(data)
    except ValueError:
        return False
    return not isinstance(document, dict) or any(isinstance(value, list) for value in document.values())


def _together(paths: list[Path], kind: Kind) -> Iterator[Group]:
    if paths:
        yield Group(str(paths[0]), source=_Files(tuple(paths), kind))
        paths.clear()
