"""Captured items in the database, within the limits of the strategies that keep them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from service.capture.database import DAY, HOUR, ROW_BYTES, Selection, Unusable
from service.capture.feedback_table import FeedbackTable

# Items that are deleted, or read, in one piece.
_PIECE = 50
_COLUMNS = (
    'model, version, variant, operation, request, "index", key, time, expires, strategy, answer, media_type, content'
)
_INSERT = f"INSERT INTO items ({_COLUMNS}, bytes) VALUES ({'?, ' * 13}?)"  # noqa: S608 - a constant


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


class Store(FeedbackTable):
    """The database; see `Database`."""

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
        deleted += self.shrink_feedback()
        self._database.execute("DELETE FROM quotas WHERE hour < ?", ((int(now) // DAY - 1) * DAY // HOUR,))
        if deleted:
            self.clean()
        return deleted

    def delete(self, where: Selection) -> tuple[int, int]:
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

    def items(self, where: Selection | None = None) -> Iterator[Item]:
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


def _size(item: Item) -> int:
    return len(item.content) + len(json.dumps(item.answer)) + ROW_BYTES
