"""A model's queue of pending items, shared fairly between the owners of the calls.

Owners take turns (deficit round robin; Shreedhar and Varghese 1996): in each round an owner may put as many items into
batches as its weight says, so nobody waits behind the large calls or the many calls of another. An owner that had no
items in the queue has its first turn early, in alternation with the round (the new flows of FQ-CoDel; RFC 8290): a lone
item does not wait for a round of large calls, and nobody waits for more than twice as long as in the round alone.
Within an owner, items leave in the order in which they came.
"""

import asyncio
from collections import deque
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from service.inference.call import BACKGROUND, QueuedCall

# The turn of background work, in relation to those of all others together.
_BACKGROUND_WEIGHT = 0.5


@dataclass(slots=True, eq=False)
class Submission:
    """Items of one call that are answered together.

    Attributes:
        call: that they belong to.
        future: gets their results, in order.
        items: at least one.
        submitted: monotonic time.
        results: those that are there.
        missing: how many are not.
        queued: how many have not been taken for a batch.
    """

    call: QueuedCall
    future: asyncio.Future[list[Any]]
    items: Sequence[Any]
    submitted: float
    results: list[Any] = field(init=False)
    missing: int = field(init=False)
    queued: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = self.queued = len(self.items)
        self.results = [None] * self.missing

    @property
    def over(self) -> bool:
        """Whether nobody waits for the items any more."""
        return self.call.cancelled or self.future.done()

    def fail(self, error: Exception) -> None:
        """Ends the wait with an error."""
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # asyncio would log one that nobody retrieves


# A submission, and the index of an item in it.
Entry = tuple[Submission, int]


@dataclass(slots=True, eq=False)
class Backlog:
    """What one owner has in the queue.

    Attributes:
        owner: of the calls.
        weight: items that it may run in a round.
        held: items of its admitted calls that have not been answered.
        entries: those that wait for a batch.
        deficit: items that it may still run in this round.
    """

    owner: Hashable
    weight: float
    held: int = 0
    entries: deque[Entry] = field(default_factory=deque)
    deficit: float = 0.0


class FairQueue:
    """Pending items by owner.

    Args:
        lock: guards the items, which are added on the event loop and taken on threads. What owners hold changes on the
            event loop alone.
    """

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._backlogs: dict[Hashable, Backlog] = {}
        self._new: deque[Backlog] = deque()
        self._round: deque[Backlog] = deque()
        self._turn_of_new = False
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def hold(self, call: QueuedCall, count: int) -> Backlog:
        """The backlog of a call's owner, which holds `count` items more."""
        backlog = self._backlogs.get(call.owner)
        if backlog is None:
            backlog = self._backlogs[call.owner] = Backlog(call.owner, call.weight)
        backlog.held += count
        return backlog

    def release(self, backlog: Backlog, count: int) -> None:
        """Reduces what an owner holds."""
        backlog.held -= count
        if not backlog.held:
            del self._backlogs[backlog.owner]

    @property
    def owners(self) -> int:
        """How many owners have admitted calls."""
        return len(self._backlogs)

    def held_by(self, owner: Hashable) -> int:
        """Items that an owner holds."""
        backlog = self._backlogs.get(owner)
        return backlog.held if backlog else 0

    def ahead(self, call: QueuedCall, count: int) -> int:
        """An upper bound for the items that run before the last of `count` new ones of a call, by their turns."""
        own = self.held_by(call.owner)
        if call.owner == BACKGROUND:
            return own + int((own + count) / _BACKGROUND_WEIGHT)
        others = self.owners - bool(own)
        return own + int(2 * (own + count) * others / call.weight)

    def push(self, backlog: Backlog, submission: Submission) -> None:
        """Adds the items of a submission."""
        count = len(submission.items)
        with self._lock:
            if not backlog.entries:
                backlog.deficit = 0.0
                self._new.append(backlog)
            backlog.entries.extend([(submission, index) for index in range(count)])
            self._size += count

    def pop(self, limit: int) -> list[Entry]:
        """Takes up to `limit` items that somebody waits for; the caller holds the lock."""
        taken: list[Entry] = []
        while self._size and len(taken) < limit:
            self._turn_of_new = not self._turn_of_new
            turns = self._new if self._new and (self._turn_of_new or not self._round) else self._round
            backlog = turns[0]
            others = len(self._new) + len(self._round) - 1
            if not others:
                backlog.deficit = limit - len(taken)
            elif backlog.deficit < 1:
                background = backlog.owner == BACKGROUND
                backlog.deficit += max(1.0, _BACKGROUND_WEIGHT * others) if background else backlog.weight
            entries = backlog.entries
            while entries and backlog.deficit >= 1 and len(taken) < limit:
                entry = entries.popleft()
                self._size -= 1
                if not entry[0].over:
                    entry[0].queued -= 1
                    backlog.deficit -= 1
                    taken.append(entry)
            if not entries:
                turns.popleft()
            elif backlog.deficit < 1:
                self._round.append(turns.popleft())
            # Otherwise the batch is full, and the turn goes on with the next one.
        return taken

    def purge(self) -> None:
        """Removes items that nobody waits for, which `pop` would find only while batches end."""
        with self._lock:
            for backlog in (*self._new, *self._round):
                backlog.entries = deque(entry for entry in backlog.entries if not entry[0].over)
            self._new = deque(backlog for backlog in self._new if backlog.entries)
            self._round = deque(backlog for backlog in self._round if backlog.entries)
            self._size = sum(len(backlog.entries) for backlog in (*self._new, *self._round))
