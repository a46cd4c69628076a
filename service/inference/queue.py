"""What waits for a model: the items of many calls, in the order of their turn."""

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
        """Ends the wait with an error, which nobody need look at."""
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

    A call fills at most a quarter of a batch in a round, so that a small call never waits for all of a large one.

    Args:
        max_batch: the most items in a batch.
        lock: held while the queue changes; batches are taken on other threads than items are added.

    Attributes:
        entries: what waits, as a heap.
    """

    def __init__(self, max_batch: int, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._share = max(1, max_batch // 4)
        self.entries: list[Entry] = []
        self._order = itertools.count()
        self._round = 0

    def __len__(self) -> int:
        return len(self.entries)

    def push(self, submission: Submission, items: Sequence[Any]) -> None:
        """Adds the items of a submission."""
        context = submission.context
        with self._lock:
            # Behind what else of the call waits.
            first = max(self._round, context.next_round)
            for index, item in enumerate(items):
                entry = (context.priority, first + index // self._share, next(self._order), submission, index, item)
                heapq.heappush(self.entries, entry)
            context.next_round = first + math.ceil(len(items) / self._share)

    def pop(self, limit: int) -> tuple[list[Entry], Mapping[DropReason, int]]:
        """Takes the first `limit` entries that somebody still waits for; says how many others were passed over.

        The caller holds the lock.
        """
        entries: list[Entry] = []
        dropped: Counter[DropReason] = Counter()
        while self.entries and len(entries) < limit:
            entry = heapq.heappop(self.entries)
            submission = entry[3]
            if submission.context.cancelled or submission.future.done():
                dropped[_reason(submission)] += 1
            else:
                entries.append(entry)
        if entries:
            self._round = max(self._round, entries[-1][1]) + 1
        return entries, dropped

    def purge(self) -> Mapping[DropReason, int]:
        """Removes what nobody waits for any more; says how many.

        `pop` passes over such entries too, but comes to them only while batches end.
        """
        with self._lock:
            dropped = Counter(_reason(entry[3]) for entry in self.entries if entry[3].over)
            if dropped:
                self.entries = [entry for entry in self.entries if not entry[3].over]
                heapq.heapify(self.entries)
        return dropped


def _reason(submission: Submission) -> DropReason:
    return "expired" if submission.expired else "abandoned"
