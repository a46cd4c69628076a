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
            ways = [("SQLite", in_sqlite), ("files", in_files)]
            for name, way in ways if turn % 2 else reversed(ways):
                measured[name].append(_measure(way, size, options.items))
        for name, found in measured.items():
            values = [statistics.median(column) for column in zip(*found, strict=True)]
            figures[f"{name}, {size} bytes"] = values
            table.add_row(name, *(f"{value:,.1f}" for value in values))
        recorder.print(table)
    recorder.write(options.json, "benchmarks.capture_files", figures)


# Keeps items within so many bytes in a folder, a batch at a time; returns what deletes the items of a request.
Way = Callable[[Path, Sequence[Sequence[Item]], int], Callable[[str], None]]


def in_sqlite(folder: Path, batches: Sequence[Sequence[Item]], most: int) -> Callable[[str], None]:
    """As the service keeps them."""
    store = Store(folder, create=True)
    for batch in batches:
        store.write(batch, {("classifier", "random"): _MANY}, {"classifier": most}, time.time())
    return lambda request: store.delete(Selection(request=request)) and None


def in_files(folder: Path, batches: Sequence[Sequence[Item]], most: int) -> Callable[[str], None]:
    """An image and a JSON file for each item, and a file that counts those of the hour."""
    kept: deque[tuple[str, int]] = deque()
    size = count = 0
    for batch in batches:
        for item in batch:
            name = f"{count:09}-{item.request}"
            answer = json.dumps(item.row[:-1]).encode()
            _write(folder / f"{name}.png", item.content)
            _write(folder / f"{name}.json", answer)
            kept.append((name, len(item.content) + len(answer)))
            size, count = size + kept[-1][1], count + 1
            while size > most:
                oldest, less = kept.popleft()
                size -= less
                (folder / f"{oldest}.png").unlink()
                (folder / f"{oldest}.json").unlink()
        _write(folder / "quotas", str(count).encode())

    def delete(request: str) -> None:
        for path in folder.glob(f"*-{request}.*"):
            path.unlink()

    return delete


def _write(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)


def _measure(way: Way, size: int, count: int) -> tuple[float, ...]:
    items = [_item(number, size) for number in range(count)]
    batches = [items[first : first + _BATCH] for first in range(0, count, _BATCH)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        began, processor = time.perf_counter(), time.process_time()
        delete = way(folder, batches, count * size // 2)
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        began = time.perf_counter()
        for number in range(count - _DELETED, count):
            delete(f"r-{number}")
        deleting = time.perf_counter() - began
        disk = sum(512 * path.stat().st_blocks for path in folder.iterdir())
    return 1e6 * processor / count, 1e6 * seconds / count, 1e3 * deleting / _DELETED, disk / 1e6


def _item(number: int, size: int) -> Item:
    answer = {"labels": [{"label": "cat", "index": 3, "probability": 0.9}], "typicality": 0.5}
    return Item(
        "classifier", "1", "reference", "predict", f"r-{number}", 0, None, time.time(), time.time() + 86_400, "random",
        answer, "image/png", os.urandom(size),
    )  # fmt: skip


if __name__ == "__main__":
    main()
