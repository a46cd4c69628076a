"""A model's queue of pending items, which come from many calls."""

import asyncio
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from service.errors import Abandoned
from service.inference.context import Context

DropReason = Literal["abandoned", "expired"]

# The share of each batch that is kept for calls of low priority while others wait.
_BACKGROUND_SHARE = 1 / 3


@dataclass(slots=True, eq=False)
class Submission:
    """Items of one call that are answered together.

    Attributes:
        future: gets their results, in order.
        results: those that are there.
        missing: how many are not.
        submitted: when they were queued, on the monotonic clock.
        context: of the call.
        expired: whether the deadline passed before they were answered.
    """

    future: asyncio.Future[list[Any]]
    results: list[Any]
    missing: int
    submitted: float
    context: Context
    expired: bool = False

    @property
    def over(self) -> bool:
        """Whether nobody waits for the items any more."""
        return self.context.cancelled or self.future.done()

    def fail(self, error: Exception) -> None:
        """Ends the wait with an error; asyncio does not log it if nobody retrieves it."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # asyncio would log one that nobody retrieves

    def abandon(self) -> None:
        """Gives the items up; those that no batch has taken yet are never run."""
        self.fail(Abandoned())


# Priority, round, order of arrival, submission, index in the submission, item: a heap compares no further than the
# third.
Entry = tuple[int, int, int, Submission, int, Any]


class Queue:
    """Entries by priority, then by round, then by arrival.

    A call fills at most a quarter of a batch in a round, and a call of one item does not wait for the rounds at all:
    half of each batch is for such items. A lone item never waits for large calls, and lone items do not starve large
    calls. Calls of low priority (above 0) get a third of each batch, and what the others leave.

    Args:
        max_batch: the most items in a batch.
        lock: held while the queue changes; batches are taken on other threads than items are added.

    Attributes:
        lone: the items of calls that have no other, as a heap.
        others: all other items, as a heap.
        background: the items of calls of low priority, as a heap.
    """

    def __init__(self, max_batch: int, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._share = max(1, max_batch // 4)
        self.lone: list[Entry] = []
        self.others: list[Entry] = []
        self.background: list[Entry] = []
        self._credit = 0.0  # items of low priority whose turn it is
        self._order = itertools.count()
        self._round = 0
        self._odd = False

    def __len__(self) -> int:
        return len(self.lone) + len(self.others) + len(self.background)

    def push(self, submission: Submission, items: Sequence[Any]) -> None:
        """Adds the items of a submission."""
        context = submission.context
        with self._lock:
            # After the call's earlier items.
            first = max(self._round, context.next_round)
            heap = self.background if context.priority > 0 else self.lone if context.single else self.others
            for index, item in enumerate(items):
                entry = (context.priority, first + index // self._share, next(self._order), submission, index, item)
                heapq.heappush(heap, entry)
            context.next_round = first + math.ceil(len(items) / self._share)

    def pop(self, limit: int) -> tuple[list[Entry], Mapping[DropReason, int]]:
        """Takes the next `limit` entries that somebody still waits for; says how many others were passed over.

        The caller holds the lock.
        """
        entries: list[Entry] = []
        dropped: Counter[DropReason] = Counter()
        if self.background:
            self._credit += limit * _BACKGROUND_SHARE
            self._take(self.background, min(limit, int(self._credit)), entries, dropped)
            self._credit = min(self._credit - len(entries), limit) if self.background else 0.0
        # Half of the rest, rounded up and down in turn so that batches of one item are shared too.
        self._odd = not self._odd
        self._take(self.lone, len(entries) + (limit - len(entries) + self._odd) // 2, entries, dropped)
        self._take(self.others, limit, entries, dropped)
        self._take(self.lone, limit, entries, dropped)
        self._take(self.background, limit, entries, dropped)
        if entries:
            self._round = max(self._round, max(entry[1] for entry in entries)) + 1
        return entries, dropped

    @staticmethod
    def _take(heap: list[Entry], limit: int, entries: list[Entry], dropped: Counter[DropReason]) -> None:
        """Moves entries from a heap until there are `limit`."""
        while heap and len(entries) < limit:
            entry = heapq.heappop(heap)
            submission = entry[3]
            if submission.context.cancelled or submission.future.done():
                dropped[_reason(submission)] += 1
            else:
                entries.append(entry)

    def purge(self) -> Mapping[DropReason, int]:
        """Removes what nobody waits for any more; says how many.

        `pop` passes over such entries too, but comes to them only while batches end.
        """
        dropped: Counter[DropReason] = Counter()
        with self._lock:
            for heap in (self.lone, self.others, self.background):
                over = [entry for entry in heap if entry[3].over]
                if over:
                    dropped.update(_reason(entry[3]) for entry in over)
                    heap[:] = [entry for entry in heap if not entry[3].over]
                    heapq.heapify(heap)
        return dropped


def _reason(submission: Submission) -> DropReason:
    return "expired" if submission.expired else "abandoned"
