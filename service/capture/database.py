"""The SQLite database of captures and feedback, which several processes write and read at once.

Every change is a transaction, so a process that is killed leaves the database as it was before or after one. Deleted
content is overwritten with zeros.
"""

import contextlib
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

FILE = "captures.sqlite3"
HOUR, DAY = 3600, 86_400
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 10.0
_ATTEMPTS, _PAUSE_SECONDS = 20, 0.05
# A longer file is cut after a checkpoint.
_LOG_BYTES = 16_000_000
_PAGES_AT_A_TIME = 2000
# A row's own columns and its share of a page.
ROW_BYTES = 300
_SCHEMA = """
CREATE TABLE items (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL, version TEXT NOT NULL, variant TEXT NOT NULL, operation TEXT NOT NULL,
    request TEXT NOT NULL, "index" INTEGER NOT NULL, key TEXT,
    time REAL NOT NULL, expires REAL NOT NULL, strategy TEXT NOT NULL,
    answer TEXT NOT NULL, media_type TEXT NOT NULL, content BLOB NOT NULL, bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX items_by_request ON items (request);
CREATE INDEX items_by_model ON items (model, number);
CREATE INDEX items_by_end ON items (expires);
CREATE TABLE sizes (model TEXT PRIMARY KEY, items INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TRIGGER item_added AFTER INSERT ON items BEGIN
    INSERT INTO sizes VALUES (new.model, 1, new.bytes)
    ON CONFLICT (model) DO UPDATE SET items = items + 1, bytes = bytes + new.bytes;
END;
CREATE TRIGGER item_deleted AFTER DELETE ON items BEGIN
    UPDATE sizes SET items = items - 1, bytes = bytes - old.bytes WHERE model = old.model;
END;
CREATE TABLE quotas (
    model TEXT NOT NULL, strategy TEXT NOT NULL, hour INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (model, strategy, hour)
) STRICT;
CREATE TABLE feedback (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    request TEXT NOT NULL, "index" INTEGER NOT NULL, key TEXT NOT NULL,
    model TEXT, version TEXT, time REAL NOT NULL, expires REAL NOT NULL,
    said TEXT NOT NULL, truth TEXT, figure TEXT, points REAL, weight REAL,
    UNIQUE (request, "index", key)
) STRICT;
CREATE INDEX feedback_that_waits ON feedback (number) WHERE model IS NULL;
CREATE INDEX feedback_by_model ON feedback (model, version, time);
CREATE INDEX feedback_by_end ON feedback (expires);
"""


class Unusable(Exception):
    """The database cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which items are meant; those that all given fields fit.

    Attributes:
        model: name of the model.
        version: its number.
        request: ID of the request.
        strategy: that kept them.
        since: Unix time of the oldest.
        until: Unix time before which they were answered.
    """

    model: str | None = None
    version: str | None = None
    request: str | None = None
    strategy: str | None = None
    since: float | None = None
    until: float | None = None

    @property
    def whole_requests(self) -> bool:
        """Whether feedback has all the fields that are given."""
        return self.strategy is None

    @property
    def sql(self) -> tuple[str, tuple[Any, ...]]:
        """A condition and its values."""
        named = {"model": self.model, "version": self.version, "request": self.request, "strategy": self.strategy}
        parts: list[tuple[str, Any]] = [(f"{name} = ?", value) for name, value in named.items() if value is not None]
        parts += [("time >= ?", self.since)] if self.since is not None else []
        parts += [("time < ?", self.until)] if self.until is not None else []
        return " AND ".join([part for part, _ in parts]) or "1", tuple(value for _, value in parts)


class Database:
    """The database of captures in a folder; a connection for one thread at a time.

    Args:
        folder: which is made if it is not there, readable by its owner alone.
        create: makes the database if there is none.

    Raises:
        Unusable: the folder or the database cannot be used, or there is none.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        path = folder / FILE
        try:
            if create:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                _make_file(path)
            elif not path.is_file():
                raise Unusable(f"{folder} holds no captures: there is no {FILE}")
            self._database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._prepare_patiently()
        except OSError as error:
            raise Unusable(f"{path} cannot be written: {error.strerror}") from error
        except sqlite3.Error as error:
            raise Unusable(f"{path} cannot be used: {error}") from error

    def _prepare_patiently(self) -> None:
        """Waits for another process that makes the database, which SQLite's own timeout does not cover."""
        for attempt in range(_ATTEMPTS):
            try:
                self._prepare()
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def _prepare(self) -> None:
        run = self._database.execute
        # Before there are tables; later it has no effect.
        run("PRAGMA auto_vacuum = INCREMENTAL")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = NORMAL")
        run("PRAGMA secure_delete = ON")
        run(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        if run("PRAGMA user_version").fetchone()[0] == 0:
            with self._transaction():
                # Another process may have been faster.
                if run("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in _statements(_SCHEMA):
                        run(statement)
                    run(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        found = run("PRAGMA user_version").fetchone()[0]
        if found != _SCHEMA_VERSION:
            raise Unusable(f"{FILE} has the layout {found}; this version of Quartet reads {_SCHEMA_VERSION}")

    def close(self) -> None:
        """Closes the connection."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
                self._database.execute("ROLLBACK")
            raise

    def clean(self) -> bool:
        """Empties the log of changes, which still holds deleted content, and gives free pages back to the disk.

        Returns:
            Whether the log could be emptied: not as long as another process reads.
        """
        self._database.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_A_TIME})").fetchall()
        busy, *_ = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


def _make_file(path: Path) -> None:
    """Makes an empty file that only its owner can read, unless there is one.

    A file that is there must not be opened: closing it would release the locks of all connections of this process
    (sqlite.org/howtocorrupt.html, section 2.2).
    """
    if path.exists():
        return
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # with mode 0600
    os.close(descriptor)
    try:
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(name, path)
    finally:
        os.unlink(name)


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder for its user."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def expiry(days: float, now: float | None = None) -> float:
    """The Unix time after which something of now is deleted."""
    return (time.time() if now is None else now) + days * DAY


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; those of a trigger end with END."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
