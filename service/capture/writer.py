"""The thread that writes captured items, behind a bounded queue: calls never wait for the disk."""

import json
import logging
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic_core

from service.capture.asked import Asked
from service.capture.database import Unusable, expiry, free_bytes
from service.capture.pictures import bounded
from service.capture.store import Item, Limits, Store
from service.capture.strategies import Chooser
from service.errors import QuartetError
from service.observe.events import ItemsCaptured
from service.tasks.base import Documents, Images

logger = logging.getLogger(__name__)

# What waits to be written, and what is written in one transaction.
_MOST_WAITING, _MOST_WAITING_BYTES = 512, 64_000_000
_MOST_IN_BATCH, _MOST_IN_BATCH_BYTES = 64, 8_000_000
# Between looks at what has expired.
_EXPIRY_SECONDS = 60.0
# After a failure of the disk, nothing is written for this long.
_FAILURE_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """An item that is to be kept, and what says how."""

    chooser: Chooser
    asked: Asked
    index: int
    strategy: str
    size: int


class Writer:
    """Writes items to the database in a folder. Its thread starts with the first one.

    Args:
        folder: of the database.
        max_pixels: that an image may declare.
        tell: receives what became of items; called on the thread.
        every_second: other work with the database, on the thread; None for none.
    """

    def __init__(
        self,
        folder: Path,
        max_pixels: int,
        tell: Callable[[ItemsCaptured], None],
        every_second: Callable[[Store], None] | None = None,
    ) -> None:
        self._folder = folder
        self._max_pixels = max_pixels
        self._tell = tell
        self._every_second = every_second
        self._waiting: deque[Wanted] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._failed_until = 0.0
        self._expiry = 0.0

    def start(self) -> None:
        """Starts the thread, which also deletes what has expired; idempotent."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="captures", daemon=True)
            self._thread.start()

    def offer(self, wanted: Wanted) -> bool:
        """Puts an item in line; False if there is no room."""
        with self._changed:
            if len(self._waiting) >= _MOST_WAITING or self._bytes + wanted.size > _MOST_WAITING_BYTES:
                return False
            self._waiting.append(wanted)
            self._bytes += wanted.size
            self._changed.notify()
        return True

    def close(self) -> None:
        """Writes what waits, and ends the thread; gives up on a disk that does not answer."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            try:
                if batch:
                    self._write(batch)
                if self._every_second is not None and time.monotonic() >= self._failed_until:
                    self._every_second(self._open())
                if time.monotonic() >= self._expiry:
                    self._expiry = time.monotonic() + _EXPIRY_SECONDS
                    self._open().delete_expired(time.time())
            except (sqlite3.Error, Unusable, OSError) as error:
                self._fail(error, batch)
            except Exception:  # the thread must outlive whatever a client has sent
                logger.exception("captured items could not be written")
                self._drop(batch, "error")
        if self._store is not None:
            self._store.close()

    def _take(self) -> list[Wanted] | None:
        """The next items; an empty list after a while without any, None at the end."""
        with self._changed:
            if not self._waiting and not self._closing:
                self._changed.wait(_EXPIRY_SECONDS if self._every_second is None else 1.0)
            batch: list[Wanted] = []
            size = 0
            while self._waiting and len(batch) < _MOST_IN_BATCH and size < _MOST_IN_BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += batch[-1].size
            self._bytes -= size
            return batch if batch or not self._closing else None

    def _write(self, batch: Sequence[Wanted]) -> None:
        if time.monotonic() < self._failed_until:
            self._drop(batch, "error")
            return
        store = self._open()
        free = free_bytes(self._folder)
        full = [each for each in batch if free < each.chooser.policy.min_free_mb * 1e6]
        self._drop(full, "disk")
        items: list[tuple[Wanted, Item]] = []
        for wanted in batch:
            if wanted not in full:
                try:
                    items.append((wanted, self._item(wanted)))
                except QuartetError as error:  # an image that the model's own decoder has read may still be damaged
                    logger.debug("an item cannot be kept: %s", error)
                    self._drop([wanted], "unreadable")
        if items:
            self._add(store, items)

    def _add(self, store: Store, items: Sequence[tuple[Wanted, Item]]) -> None:
        choosers = {item.model: wanted.chooser for wanted, item in items}
        limits = {
            (model, name): Limits(strategy.hourly, strategy.daily)
            for model, chooser in choosers.items()
            for name, strategy in chooser.policy.strategies.items()
        }
        # The policy may have changed since the item was chosen.
        current = [item for _, item in items if (item.model, item.strategy) in limits]
        most = {model: chooser.policy.max_mb * 1e6 for model, chooser in choosers.items()}
        written = store.write(current, limits, most, time.time())
        for (model, strategy), until in written.closed.items():
            choosers[model].close(strategy, until)
        for model, size in written.bytes.items():
            kept = {strategy: count for (of, strategy), count in written.kept.items() if of == model}
            self._tell(ItemsCaptured(model, kept, bytes=size))

    def _item(self, wanted: Wanted) -> Item:
        asked, policy = wanted.asked, wanted.chooser.policy
        media_type, content = self._content(wanted)
        answer = pydantic_core.to_json({**asked.common, **asked.answers[wanted.index]}, inf_nan_mode="null")
        return Item(
            asked.model, asked.version, asked.variant, asked.operation.name, asked.request, wanted.index, asked.key,
            asked.time, expiry(policy.days, asked.time), wanted.strategy, json.loads(answer), media_type, content,
        )  # fmt: skip

    def _content(self, wanted: Wanted) -> tuple[str, bytes]:
        asked, policy = wanted.asked, wanted.chooser.policy
        given, reads = asked.inputs[wanted.index], asked.operation.reads
        if isinstance(reads, Images):
            channels = asked.manifest.image.channels
            return bounded(given.data, channels, policy.image_side, policy.jpeg_quality, self._max_pixels)
        return "application/json", pydantic_core.to_json(_write_of(reads)(given, asked.manifest))

    def _open(self) -> Store:
        if self._store is None:
            self._store = Store(self._folder, create=True)
        return self._store

    def _fail(self, error: Exception, batch: Sequence[Wanted]) -> None:
        logger.error("captures: %s; nothing is kept for %g s", error, _FAILURE_SECONDS)
        self._failed_until = time.monotonic() + _FAILURE_SECONDS
        self._expiry = max(self._expiry, self._failed_until)
        self._drop(batch, "error")
        if self._store is not None:  # the file may have been replaced
            self._store.close()
            self._store = None

    def _drop(self, items: Sequence[Wanted], reason: str) -> None:
        for model, count in Counter(each.asked.model for each in items).items():
            self._tell(ItemsCaptured(model, dropped={reason: count}))


def can_keep(operation: Any) -> bool:
    """Whether the inputs of an operation can be kept: images, and documents whose inputs are records."""
    return isinstance(operation.reads, Images) or bool(operation.reads.records and operation.reads.records.write)


def _write_of(reads: Documents) -> Callable[[Any, Any], dict[str, Any]]:
    assert reads.records is not None  # noqa: S101 - `can_keep` says so
    assert reads.records.write is not None  # noqa: S101 - so does it here
    return reads.records.write
