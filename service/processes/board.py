"""A board on which the processes of one service publish figures, and read those of each other.

Each process has a file for every key, in a folder of that key that all share, and replaces it at most once a second. A
single process keeps everything in memory.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_SECONDS = 1.0
_FOLDER = "board"


class Board:
    """What this process publishes, and what the others do.

    Args:
        folder: of the supervisor; None for a single process.
        index: of this process. Files that an earlier process of this index has left are removed.
    """

    def __init__(self, folder: Path | None = None, index: int = 0) -> None:
        self.index = index
        self._folder = folder / _FOLDER if folder else None
        self._documents: dict[str, Callable[[], Any]] = {}
        self._changed: set[str] = set()
        self._attachments: dict[str, bytes] = {}
        self._writing = False
        self._tasks: set[asyncio.Task[None]] = set()
        if self._folder:
            self._folder.mkdir(exist_ok=True)
            for path in (*self._folder.glob(f"{index}-*"), *self._folder.glob(f"*/{index}.json")):
                path.unlink(missing_ok=True)

    @property
    def shared(self) -> bool:
        """Whether there may be other processes."""
        return self._folder is not None

    def publish(self, key: str, make: Callable[[], Any]) -> None:
        """Publishes a small document under a key, within a second; called on the event loop.

        Args:
            key: any text.
            make: makes the document, of JSON types; called when the document is written or read.
        """
        self._documents[key] = make
        if self._folder is None:
            return
        self._changed.add(key)
        if not self._writing:
            self._writing = True
            # At once, so that the first document and one after a pause are up to date.
            self._start_writing()

    def remove(self, key: str) -> None:
        """Withdraws what this process has published under a key."""
        self._documents.pop(key, None)
        self._changed.discard(key)
        if self._folder:
            self._path(key, self.index).unlink(missing_ok=True)

    async def read(self, key: str) -> list[Any]:
        """The documents of all processes under a key, that of this process first; called on the event loop.

        The files of the others are read on a thread. There may be many, and they may have a hundred labels each.
        """
        found = [self._documents[key]()] if key in self._documents else []
        return found + await asyncio.to_thread(self._read_others, key) if self._folder else found

    def _read_others(self, key: str) -> list[Any]:
        own, found = self._path(key, self.index), []
        for path in sorted(own.parent.glob("*.json")):
            if path != own:
                with contextlib.suppress(OSError, ValueError):  # removed, or its process has just begun
                    found.append(json.loads(path.read_bytes()))
        return found

    def attach(self, name: str, data: bytes) -> None:
        """Keeps larger data under a name, any text, for the other processes too; safe on any thread."""
        if self._folder is None:
            self._attachments[name] = data
        else:
            with contextlib.suppress(OSError):  # without it, there is nothing to show
                _replace(self._folder / f"{self.index}-{_name(name)}.data", data)

    def detach(self, name: str) -> None:
        """Drops what `attach` kept."""
        if self._folder is None:
            self._attachments.pop(name, None)
        else:
            (self._folder / f"{self.index}-{_name(name)}.data").unlink(missing_ok=True)

    def attachment(self, index: int, name: str) -> bytes | None:
        """What a process keeps under a name; None if there is nothing, or nothing any more."""
        if self._folder is None:
            return self._attachments.get(name) if index == self.index else None
        try:
            return (self._folder / f"{index}-{_name(name)}.data").read_bytes()
        except OSError:
            return None

    def _path(self, key: str, index: int) -> Path:
        assert self._folder is not None  # noqa: S101 - only called with a folder
        return self._folder / _name(key) / f"{index}.json"

    def _start_writing(self) -> None:
        task = asyncio.get_running_loop().create_task(self._write())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self) -> None:
        """Writes what has changed, and goes on once a second as long as something does."""
        try:
            while self._changed:
                keys, self._changed = self._changed, set()
                files = {
                    self._path(key, self.index): json.dumps(self._documents[key]()).encode()
                    for key in keys
                    if key in self._documents
                }
                try:
                    await asyncio.to_thread(_replace_all, files)
                except OSError as error:  # the disk is full, say
                    logger.warning("figures for the other processes cannot be written: %s", error.strerror)
                for key in keys - self._documents.keys():  # removed meanwhile
                    self._path(key, self.index).unlink(missing_ok=True)
                await asyncio.sleep(_SECONDS)
        finally:
            self._writing = False


def _name(key: str) -> str:
    """A file name for a key, which may be long and may hold any character."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _replace_all(files: dict[Path, bytes]) -> None:
    for path, data in files.items():
        path.parent.mkdir(exist_ok=True)
        _replace(path, data)


def _replace(path: Path, data: bytes) -> None:
    """Writes a file that others see complete or not at all."""
    scratch = path.with_suffix(".new")
    scratch.write_bytes(data)
    os.replace(scratch, path)
