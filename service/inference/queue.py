"""What waits for a model: the items of many calls in the order of their turn."""

import asyncio
import heapq
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from service.errors import DeadlineExceeded

DropReason = Literal["abandoned", "expired"]


@dataclass(slots=True)
class Timing:
    """Seconds that the slowest item of a call spent waiting, and running with its batch."""

    queue: float = 0.0
    inference: float = 0.0


@dataclass(slots=True, eq=False)
class Group:
    """The items of one call, which are answered together: `future` gets their results, in order."""

    future: asyncio.Future[list[Any]]
    results: list[Any]
    missing: int
    submitted: float
    deadline: float
    on_wait: "Callable[[Group], None] | None"
    timing: Timing = field(default_factory=Timing)


# priority, round, order of arrival, group, place in the group, item: a heap compares no further than the third.
Entry = tuple[int, int, int, Group, int, Any]


class Queue:
    """Entries by priority, then by round, then by arrival.

    One call fills at most a quarter of a round, so that small calls never wait for all of a large one.

    Args:
        max_batch: the most items in a batch.

    Attributes:
        changed: guards the queue; is notified when there may be work.
    """

    def __init__(self, max_batch: int) -> None:
        self.changed = threading.Condition()
        self._share = max(1, max_batch // 4)
        self._heap: list[Entry] = []
        self._order = itertools.count()
        self._round = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, group: Group, items: Sequence[Any], priority: int) -> None:
        """Adds a call's items; lower priorities go first."""
        with self.changed:
            for index, item in enumerate(items):
                turn = self._round + index // self._share
                heapq.heappush(self._heap, (priority, turn, next(self._order), group, index, item))

    def pop(self, limit: int) -> tuple[list[Entry], Mapping[DropReason, int]]:
        """The first `limit` entries that somebody still waits for, and how many others were passed over.

        The caller holds `changed`.
        """
        entries: list[Entry] = []
        dropped: Counter[DropReason] = Counter()
        while self._heap and len(entries) < limit:
            entry = heapq.heappop(self._heap)
            if entry[3].future.done():
                dropped[_reason(entry[3])] += 1
            else:
                entries.append(entry)
        if entries:
            self._round = max(self._round, entries[-1][1]) + 1
        return entries, dropped

    def purge(self) -> Mapping[DropReason, int]:
        """Removes what nobody waits for any more; says how many.

        `pop` passes over such entries too, but comes to them only while batches end.
        """
        with self.changed:
            dropped = Counter(_reason(entry[3]) for entry in self._heap if entry[3].future.done())
            if dropped:
                self._heap = [entry for entry in self._heap if not entry[3].future.done()]
                heapq.heapify(self._heap)
        return dropped


def _reason(group: Group) -> DropReason:
    """Why nobody waits for a call's items any more; its future has ended."""
    late = not group.future.cancelled() and isinstance(group.future.exception(), DeadlineExceeded)
    return "expired" if late else "abandoned"
