"""Captured items and feedback in an SQLite database, which several processes write and read at once.

Every change is a transaction, so a process that is killed leaves the database as it was before or after one. Deleted
content is overwritten with zeros.
"""

import contextlib
import json
import os
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

FILE = "captures.sqlite3"
HOUR, DAY = 3600, 86_400
_SCHEMA_VERSION = 1
_BUSY_SECONDS = 10.0
_ATTEMPTS, _PAUSE_SECONDS = 20, 0.05
# A row's own columns and its share of a page.
_ROW_BYTES = 300
# Items that are deleted, or read, in one piece.
_PIECE = 50
# A longer file is cut after a checkpoint.
_LOG_BYTES = 16_000_000
_PAGES_AT_A_TIME = 2000
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
_COLUMNS = (
    'model, version, variant, operation, request, "index", key, time, expires, strategy, answer, media_type, content'
)
_FEEDBACK = 'request, "index", key, model, version, time, expires, said, truth, figure, points, weight'
# Entries of feedback that wait, and bytes of all feedback.
_MOST_WAITING, _MOST_FEEDBACK_BYTES = 10_000, 200_000_000
_INSERT = f"INSERT INTO items ({_COLUMNS}, bytes) VALUES ({'?, ' * 13}?)"  # noqa: S608 - a constant


class Unusable(Exception):
    """The database cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Item:
    """An input that was kept, with its answer.

    Attributes:
        model: that answered, as `version` and `variant`.
        operation: of the request, such as `predict`.
        request: its ID.
        index: of the item in the request, from 0.
        key: name of the API key; None without keys.
        time: Unix time of the answer.
        expires: Unix time from which the item is deleted.
        strategy: that kept it.
        answer: as the client got it, with the fields beside the results.
        media_type: of the content.
        content: an image file, or a JSON object.
        number: of the item in the database, in the order of arrival.
    """

    model: str
    version: str
    variant: str
    operation: str
    request: str
    index: int
    key: str | None
    time: float
    expires: float
    strategy: str
    answer: Mapping[str, Any]
    media_type: str
    content: bytes
    number: int = 0

    @property
    def row(self) -> tuple[Any, ...]:
        """Its columns."""
        return (
            self.model, self.version, self.variant, self.operation, self.request, self.index, self.key, self.time,
            self.expires, self.strategy, json.dumps(self.answer), self.media_type, self.content,
        )  # fmt: skip

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Item":
        """From the columns of `row` and the number."""
        values = dict(zip(cls.__slots__, row, strict=True))
        return cls(**values | {"answer": json.loads(values["answer"])})


class Limits(NamedTuple):
    """The most items that a strategy keeps in an hour and in a day, both of the clock in UTC."""

    hourly: int
    daily: int


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody says of an answer.

    Attributes:
        request: ID of the request.
        index: of the item in the request.
        key: name of the API key that it was said with; empty without keys.
        said: `{"right": …}`, or as long as the answer is not known `{"truth": …}`.
        time: Unix time of the answer; of the feedback as long as the answer is not known.
        expires: Unix time from which it is deleted.
        model: that answered, as `version`; None as long as the answer is not known.
        truth: what is known of the item now; None if that is only that the answer was wrong.
        figure: what `points` and `weight` count for; see `service.tasks.base.Score`.
    """

    request: str
    index: int
    key: str
    said: Mapping[str, Any]
    time: float
    expires: float
    model: str | None = None
    version: str | None = None
    truth: Any = None
    figure: str | None = None
    points: float | None = None
    weight: float | None = None

    @property
    def row(self) -> tuple[Any, ...]:
        """Its columns."""
        truth = None if self.truth is None else json.dumps(self.truth)
        return (
            self.request, self.index, self.key, self.model, self.version, self.time, self.expires,
            json.dumps(self.said), truth, self.figure, self.points, self.weight,
        )  # fmt: skip

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Feedback":
        """From the columns of `row`, in the same order."""
        request, index, key, model, version, at, expires, said, truth, figure, points, weight = row
        known = None if truth is None else json.loads(truth)
        return cls(
            request, index, key, json.loads(said), at, expires, model, version, known, figure, points, weight
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sums:
    """Feedback of a version in a window: its number, and sums over points p and weights w."""

    version: str
    figure: str
    window: int
    count: int
    p: float
    w: float
    pp: float
    pw: float
    ww: float


class Written(NamedTuple):
    """What became of items.

    Attributes:
        kept: how many of each model and strategy.
        closed: until which Unix time a strategy of a model has reached a limit.
        bytes: of all items of each model that got some.
    """

    kept: Counter[tuple[str, str]]
    closed: dict[tuple[str, str], float]
    bytes: dict[str, int]


class Store:
    """The database in a folder; a connection for one thread at a time.

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

    def write(
        self,
        items: Sequence[Item],
        limits: Mapping[tuple[str, str], Limits],
        most_bytes: Mapping[str, float],
        now: float,
    ) -> Written:
        """Adds items within the limits of their strategies, and deletes the oldest where a model has too many.

        Args:
            items: to add.
            limits: by model and strategy.
            most_bytes: of the items of each model.
            now: Unix time.
        """
        written = Written(Counter(), {}, {})
        with self._transaction():
            room = {(item.model, item.strategy): 0 for item in items}
            for pair in room:
                room[pair], closed = self._room(*pair, limits[pair], now)
                if closed:
                    written.closed[pair] = closed
            kept = []
            for item in items:
                pair = item.model, item.strategy
                if room[pair] > 0:
                    room[pair] -= 1
                    written.kept[pair] += 1
                    kept.append((*item.row, _size(item)))
            self._database.executemany(_INSERT, kept)
            for (model, strategy), count in written.kept.items():
                self._database.execute(
                    "INSERT INTO quotas VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
                    (model, strategy, int(now) // HOUR, count),
                )
            for model in {model for model, _ in written.kept}:
                written.bytes[model] = self._shrink(model, most_bytes[model])
        return written

    def _room(self, model: str, strategy: str, limits: Limits, now: float) -> tuple[int, float]:
        """How many items a strategy may still keep, and if it is none until when."""
        hour, day = int(now) // HOUR, int(now) // DAY
        counts = self._database.execute(
            "SELECT hour, count FROM quotas WHERE model = ? AND strategy = ? AND hour >= ?",
            (model, strategy, day * DAY // HOUR),
        ).fetchall()
        in_hour = sum(count for at, count in counts if at == hour)
        in_day = sum(count for _, count in counts)
        if in_day >= limits.daily:
            return 0, (day + 1) * DAY
        if in_hour >= limits.hourly:
            return 0, (hour + 1) * HOUR
        return min(limits.hourly - in_hour, limits.daily - in_day), 0.0

    def _shrink(self, model: str, most: float) -> int:
        """Deletes the oldest items of a model until they have at most `most` bytes; returns how many they have."""
        while (size := self.sizes().get(model, (0, 0))[1]) > most:
            excess, last = size - most, 0
            for number, item_bytes in self._database.execute(
                "SELECT number, bytes FROM items WHERE model = ? ORDER BY number LIMIT ?", (model, _PIECE)
            ).fetchall():
                excess, last = excess - item_bytes, number
                if excess <= 0:
                    break
            self._database.execute("DELETE FROM items WHERE model = ? AND number <= ?", (model, last))
        return size

    def _shrink_feedback(self) -> int:
        """Deletes the oldest tenth of all feedback if it is too large; returns how many entries."""
        count, size = self._database.execute(
            "SELECT count(*), total(length(said) + ifnull(length(truth), 0)) FROM feedback"
        ).fetchone()
        if size + count * _ROW_BYTES <= _MOST_FEEDBACK_BYTES:
            return 0
        return self._database.execute(
            "DELETE FROM feedback WHERE number IN (SELECT number FROM feedback ORDER BY number LIMIT ?)",
            (count // 10 + 1,),
        ).rowcount

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Items and bytes of each model."""
        return {model: (items, size) for model, items, size in self._database.execute("SELECT * FROM sizes")}

    def delete_expired(self, now: float) -> int:
        """Deletes items, feedback and counts whose time has come; returns how many items and feedback."""
        deleted = 0
        for table in ("items", "feedback"):
            while count := self._database.execute(
                f"DELETE FROM {table} WHERE number IN (SELECT number FROM {table} WHERE expires <= ? LIMIT {_PIECE})",  # noqa: S608 - a constant
                (now,),
            ).rowcount:
                deleted += count
        deleted += self._shrink_feedback()
        self._database.execute("DELETE FROM quotas WHERE hour < ?", ((int(now) // DAY - 1) * DAY // HOUR,))
        if deleted:
            self.clean()
        return deleted

    def delete(self, where: "Selection") -> tuple[int, int]:
        """Deletes items, and the feedback that the selection fits; returns how many items and how much feedback.

        Raises:
            Unusable: they are deleted, but the log of changes still holds them.
        """
        condition, values = where.sql
        said = 0
        with self._transaction():
            if where.whole_requests:
                said = self._database.execute(f"DELETE FROM feedback WHERE {condition}", values).rowcount  # noqa: S608 - a constant
            deleted = self._database.execute(f"DELETE FROM items WHERE {condition}", values).rowcount  # noqa: S608
        while self._database.execute("PRAGMA freelist_count").fetchone()[0]:
            self.clean()
        if not self.clean():
            raise Unusable(
                "the items are deleted, but another program reads the database, so its log of changes still holds "
                "them: give the same command again"
            )
        return deleted, said

    def clean(self) -> bool:
        """Empties the log of changes, which still holds deleted content, and gives free pages back to the disk.

        Returns:
            Whether the log could be emptied: not as long as another process reads.
        """
        self._database.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_A_TIME})").fetchall()
        busy, *_ = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def items(self, where: "Selection | None" = None) -> Iterator[Item]:
        """The selected items in the order of arrival, read in pieces, so that writers are never kept out."""
        condition, values = (where or Selection()).sql
        last = 0
        while True:
            rows = self._database.execute(
                f"SELECT {_COLUMNS}, number FROM items WHERE {condition} AND number > ? ORDER BY number LIMIT ?",  # noqa: S608
                (*values, last, _PIECE),
            ).fetchall()
            if not rows:
                return
            for row in rows:
                yield Item.of(row)
            last = rows[-1][-1]

    def find(self, request: str, index: int) -> Item | None:
        """The last item of a request."""
        row = self._database.execute(
            f'SELECT {_COLUMNS}, number FROM items WHERE request = ? AND "index" = ? ORDER BY number DESC LIMIT 1',  # noqa: S608
            (request, index),
        ).fetchone()
        return None if row is None else Item.of(row)

    def add_feedback(self, said: Sequence[Feedback]) -> None:
        """Adds feedback; what the same key says of the same answer takes the place of what it has said before."""
        with self._transaction():
            self._database.executemany(
                'INSERT INTO feedback (request, "index", key, model, version, time, expires, said, truth, figure, '
                "points, weight) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "model = excluded.model, version = excluded.version, time = excluded.time, expires = excluded.expires, "
                "said = excluded.said, truth = excluded.truth, figure = excluded.figure, points = excluded.points, "
                "weight = excluded.weight",
                [each.row for each in said],
            )

    def room_for_waiting(self) -> int:
        """How many entries of feedback may wait for their answers beside those that do."""
        (waiting,) = self._database.execute("SELECT count(*) FROM feedback WHERE model IS NULL").fetchone()
        return max(0, _MOST_WAITING - int(waiting))

    def waiting_feedback(self, is_known: Callable[[str], bool] = lambda _: True) -> list[Feedback]:
        """Feedback on answers that were not known where it arrived.

        Args:
            is_known: whether a request is; the others are left out.
        """
        rows = self._database.execute(f"SELECT {_FEEDBACK} FROM feedback WHERE model IS NULL LIMIT {_MOST_WAITING}")  # noqa: S608
        return [Feedback.of(row) for row in rows if is_known(row[0])]

    def feedback(self, where: "Selection | None" = None) -> Iterator[Feedback]:
        """Feedback whose answer is known, in the order of arrival."""
        condition, values = (where or Selection()).sql
        rows = self._database.execute(
            f"SELECT {_FEEDBACK} FROM feedback WHERE model IS NOT NULL AND {condition} ORDER BY number",  # noqa: S608
            values,
        ).fetchall()
        return map(Feedback.of, rows)

    def sums(self, model: str, since: float, window: float) -> list[Sums]:
        """Feedback of a model since a Unix time, by version, figure and window of so many seconds."""
        rows = self._database.execute(
            "SELECT version, figure, CAST((time - ?) / ? AS INTEGER) AS window, count(*), sum(points), sum(weight), "
            "sum(points * points), sum(points * weight), sum(weight * weight) FROM feedback "
            "WHERE model = ? AND time >= ? AND weight > 0 GROUP BY version, figure, window",
            (since, window, model, since),
        )
        return [Sums(*row) for row in rows]


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


def _size(item: Item) -> int:
    return len(item.content) + len(json.dumps(item.answer)) + _ROW_BYTES


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; those of a trigger end with END."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
