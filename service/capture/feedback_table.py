"""Feedback in the database of captures, and its sums over time."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.capture.database import ROW_BYTES, Database, Selection

_FEEDBACK = 'request, "index", key, model, version, time, expires, said, truth, figure, points, weight'
# Entries of feedback that wait, and bytes of all feedback.
_MOST_WAITING, _MOST_FEEDBACK_BYTES = 10_000, 200_000_000


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


class FeedbackTable(Database):
    """The database, as far as it holds feedback."""

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

    def feedback(self, where: Selection | None = None) -> Iterator[Feedback]:
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

    def shrink_feedback(self) -> int:
        """Deletes the oldest tenth of all feedback if it is too large; returns how many entries."""
        count, size = self._database.execute(
            "SELECT count(*), total(length(said) + ifnull(length(truth), 0)) FROM feedback"
        ).fetchone()
        if size + count * ROW_BYTES <= _MOST_FEEDBACK_BYTES:
            return 0
        return self._database.execute(
            "DELETE FROM feedback WHERE number IN (SELECT number FROM feedback ORDER BY number LIMIT ?)",
            (count // 10 + 1,),
        ).rowcount
