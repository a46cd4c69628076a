"""Captured items in SQLite, against a file for each: what it costs to keep them, and to delete those of a request.

The files are the simplest that could do: written beside and renamed, with the oldest deleted by what one process
remembers, and nothing overwritten with zeros. SQLite also serves several processes, and overwrites what it deletes.

python -m benchmarks.capture_files [--items 4000] [--rounds 5] [--json FILE]
"""

import json
import os
import statistics
import tempfile
import time
from argparse import ArgumentParser
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from rich.table import Table

from benchmarks.results import Recorder, add_json_option
from service.capture.database import Selection
from service.capture.store import Item, Limits, Store

# Bytes of an item: a small PNG, and a photograph.
_SIZES = (3_000, 100_000)
_BATCH = 16
_MANY = Limits(10_000_000, 10_000_000)
# Requests that are deleted, one after the other.
_DELETED = 20


def main() -> None:
    """Prints microseconds of an item, milliseconds of a deletion, and megabytes on the disk."""
    parser = ArgumentParser(prog="python -m benchmarks.capture_files", description=__doc__)
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args()
    recorder, figures = Recorder(), {}
    for size in _SIZES:
        table = Table(
            "kept in", "processor, µs of an item", "until written, µs", "to delete a request, ms", "MB on disk",
            title=f"items of {size / 1000:g} kB, of which half are deleted again",
        )  # fmt: skip
        measured: dict[str, list[tuple[float, ...]]] = {"SQLite": [], "files": []}
        for turn in range(options.rounds):
            ways: list[tuple[str, Callable[[Path], Way]]] = [("SQLite", InSqlite), ("files", InFiles)]
            for name, kind in ways if turn % 2 else reversed(ways):
                measured[name].append(_measure(kind, size, options.items))
        for name, found in measured.items():
            values = [statistics.median(column) for column in zip(*found, strict=True)]
            figures[f"{name}, {size} bytes"] = values
            table.add_row(name, *(f"{value:,.1f}" for value in values))
        recorder.print(table)
    recorder.write(options.json, "benchmarks.capture_files", figures)


class Way(Protocol):
    """A way to keep items in a folder."""

    def keep(self, batch: Sequence[Item], most: int) -> None:
        """Adds items, and deletes the oldest ones until they have at most `most` bytes."""

    def delete(self, request: str) -> None:
        """Deletes the items of a request."""

    def close(self) -> None:
        """Ends it."""


class InSqlite:
    """As the service keeps them."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(folder, create=True)

    def keep(self, batch: Sequence[Item], most: int) -> None:
        self._store.write(batch, {("classifier", "random"): _MANY}, {"classifier": most}, time.time())

    def delete(self, request: str) -> None:
        self._store.delete(Selection(request=request))

    def close(self) -> None:
        self._store.close()


class InFiles:
    """An image and a JSON file for each item, and a file that counts those of the hour."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: deque[tuple[str, int]] = deque()
        self._bytes = self._count = 0

    def keep(self, batch: Sequence[Item], most: int) -> None:
        for item in batch:
            name = f"{self._count:09}-{item.request}"
            answer = json.dumps(item.row[:-1]).encode()
            self._write(f"{name}.png", item.content)
            self._write(f"{name}.json", answer)
            self._kept.append((name, len(item.content) + len(answer)))
            self._bytes += self._kept[-1][1]
            self._count += 1
        while self._bytes > most:
            oldest, size = self._kept.popleft()
            self._bytes -= size
            (self._folder / f"{oldest}.png").unlink()
            (self._folder / f"{oldest}.json").unlink()
        self._write("quotas", str(self._count).encode())

    def delete(self, request: str) -> None:
        for path in self._folder.glob(f"*-{request}.*"):
            path.unlink()

    def close(self) -> None:
        """Nothing is open."""

    def _write(self, name: str, content: bytes) -> None:
        beside = self._folder / "new"
        beside.write_bytes(content)
        beside.replace(self._folder / name)


def _measure(kind: Callable[[Path], Way], size: int, count: int) -> tuple[float, ...]:
    items = [_item(number, size) for number in range(count)]
    batches = [items[first : first + _BATCH] for first in range(0, count, _BATCH)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        way = kind(folder)
        began, processor = time.perf_counter(), time.process_time()
        for batch in batches:
            way.keep(batch, count * size // 2)
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        began = time.perf_counter()
        for number in range(count - _DELETED, count):
            way.delete(f"r-{number}")
        deleting = time.perf_counter() - began
        disk = sum(512 * path.stat().st_blocks for path in folder.iterdir())
        way.close()
    return 1e6 * processor / count, 1e6 * seconds / count, 1e3 * deleting / _DELETED, disk / 1e6


def _item(number: int, size: int) -> Item:
    answer = {"labels": [{"label": "cat", "index": 3, "probability": 0.9}], "typicality": 0.5}
    return Item(
        "classifier", "1", "reference", "predict", f"r-{number}", 0, None, time.time(), time.time() + 86_400, "random",
        answer, "image/png", os.urandom(size),
    )  # fmt: skip


if __name__ == "__main__":
    main()
