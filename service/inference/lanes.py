"""Where batches run: on threads side by side or, if they cost next to nothing, on the event loop itself.

A CPU has lanes. While little waits, one batch at a time runs on all cores, which answers soonest. When more waits,
each lane runs batches of its own on one core: no core then waits for another at the end of every layer, which is
worth the more, the more the cores have to do beside (the event loop, a client).
"""

import asyncio
import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.inference.queue import DropReason, Entry, Queue

logger = logging.getLogger(__name__)

# Batches side by side pay where what waits takes longer than this; below, handing over costs more than it gains.
_LONG_SECONDS = 0.005

Run = Callable[[list[Any]], Sequence[Any]]


@dataclass(slots=True, eq=False)
class Batch:
    """Entries that run together, on one core (narrow) or on all, and what came of it."""

    entries: list[Entry]
    narrow: bool = False
    results: list[Any] = field(default_factory=list)
    started: float = 0.0
    seconds: float = 0.0

    def run(self, run: Run) -> None:
        """Fills in the results; an exception stands for the result of an item that failed."""
        self.started = time.monotonic()
        self.results = attempt(run, [entry[5] for entry in self.entries])
        self.seconds = time.monotonic() - self.started


class Owner(Protocol):
    """What is told, on the event loop, of batches that have run."""

    def deliver(self, batch: Batch) -> None:
        """`batch` has its results."""

    def dropped(self, counts: Mapping[DropReason, int]) -> None:
        """So many items left the queue without being run."""


class Runner(ABC):
    """Takes batches from a queue and runs them.

    Args:
        queue: what waits.
        owner: gets what ran.
        max_batch: the most items in a batch.

    Attributes:
        seconds_per_item: what an item costs when batches run one after the other, over about the last ten.
        in_flight: items that are running now.
    """

    def __init__(self, queue: Queue, owner: Owner, max_batch: int) -> None:
        self._queue = queue
        self._owner = owner
        self._max_batch = max_batch
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.seconds_per_item = 0.0
        self.in_flight = 0

    @abstractmethod
    def wake(self) -> None:
        """There may be work; called on the event loop."""

    @abstractmethod
    async def close(self, timeout: float | None) -> None:
        """Finishes what the queue holds and ends."""

    def running_seconds(self) -> float:
        """How long the batch that began first has been running; 0 if none is."""
        return 0.0

    def _learn(self, batch: Batch, side_by_side: int = 1) -> None:
        rate = batch.seconds / len(batch.entries) / side_by_side
        self.seconds_per_item += (rate - self.seconds_per_item) * (0.1 if self.seconds_per_item else 1.0)


class Inline(Runner):
    """Runs batches on the event loop, between its other callbacks.

    For models whose largest batch takes less time than a hand-over to a thread and back: there the loop has to
    give up and regain the interpreter's lock, and a core has to wake.

    Args:
        queue: what waits.
        owner: gets what ran.
        run: takes a list of items and returns as many results.
        max_batch: the most items in a batch.
    """

    def __init__(self, queue: Queue, owner: Owner, run: Run, max_batch: int) -> None:
        super().__init__(queue, owner, max_batch)
        self._run = run

    def wake(self) -> None:
        """Runs one batch; what is left waits until the loop has done what else is ready."""
        with self._queue.changed:
            entries, dropped = self._queue.pop(self._max_batch)
        self._owner.dropped(dropped)
        if entries:
            batch = Batch(entries)
            batch.run(self._run)
            self._learn(batch)
            self._owner.deliver(batch)
        if len(self._queue):
            self._loop.call_soon(self.wake)

    async def close(self, timeout: float | None) -> None:  # noqa: ARG002 — nothing to wait for
        while len(self._queue):
            self.wake()


class Lanes(Runner):
    """Runs batches on threads, which take what waits, run it and take again.

    So the device never idles for an event loop that is busy decoding; each batch costs the loop one wake-up.

    Args:
        queue: what waits.
        owner: gets what ran.
        run: takes a list of items and returns as many results; called on a thread of the lanes'.
        max_batch: the most items in a batch.
        name: of the threads.
        count: how many batches may run side by side.
        run_narrow: like `run`, on a single core, for batches side by side.
    """

    def __init__(
        self, queue: Queue, owner: Owner, run: Run, max_batch: int, *, name: str, count: int, run_narrow: Run | None
    ) -> None:
        super().__init__(queue, owner, max_batch)
        self._run = run
        self._run_narrow = run_narrow or run
        self._count = count
        self._running: list[Batch] = []
        self.threads = [threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def wake(self) -> None:
        with self._queue.changed:
            if self._may_start()[0]:
                self._queue.changed.notify()

    async def close(self, timeout: float | None) -> None:
        """Ends the threads, or leaves those that hang after `timeout` seconds."""
        with self._queue.changed:
            self._closed = True
            self._queue.changed.notify_all()
        end = math.inf if timeout is None else time.monotonic() + timeout
        for thread in self.threads:
            await asyncio.to_thread(thread.join, None if timeout is None else max(0.0, end - time.monotonic()))
        if hanging := [thread.name for thread in self.threads if thread.is_alive()]:
            logger.error("%s did not end within %s s: its model hangs", ", ".join(hanging), timeout)
        # The last batch's answers are callbacks that the loop has yet to run.
        await asyncio.sleep(0)

    def running_seconds(self) -> float:
        begun = [batch.started for batch in list(self._running) if batch.started]
        return time.monotonic() - min(begun) if begun else 0.0

    def _work(self) -> None:
        while batch := self._take():
            batch.run(self._run_narrow if batch.narrow else self._run)
            with self._queue.changed:
                self._running.remove(batch)
                self.in_flight -= len(batch.entries)
                self._learn(batch, self._count if batch.narrow else 1)
            try:
                self._loop.call_soon_threadsafe(self._owner.deliver, batch)
            except RuntimeError:
                logger.warning("the event loop ended before a batch of %d was answered", len(batch.entries))
                return

    def _take(self) -> Batch | None:
        """The next batch, once one may start; None when closed and drained."""
        queue = self._queue
        batch = None
        with queue.changed:
            while batch is None:
                limit, narrow = self._may_start()
                entries, dropped = queue.pop(limit)
                if dropped and not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._owner.dropped, dropped)
                if entries:
                    batch = Batch(entries, narrow)
                    self._running.append(batch)
                    self.in_flight += len(entries)
                elif self._closed and not len(queue):
                    break
                else:
                    queue.changed.wait()
            if self._closed and not len(queue):
                queue.changed.notify_all()  # lanes that waited for the last items to be taken may end now
            elif len(queue) and self._may_start()[0]:
                queue.changed.notify()
        return batch

    def _may_start(self) -> tuple[int, bool]:
        """How many items a batch may have that starts now (0: none may), and whether it has to be narrow."""
        if self._count == 1:
            return self._max_batch, False
        waiting = len(self._queue)
        crowded = waiting >= 2 * self._count and waiting * self.seconds_per_item >= _LONG_SECONDS
        # What waits is shared out, so that no lane takes all and leaves the next one with nothing.
        limit = min(self._max_batch, math.ceil(waiting / self._count)) if crowded else self._max_batch
        if not self._running:
            return limit, crowded
        # Beside a batch that has all cores, another one pays only if much waits.
        may_start = crowded or all(batch.narrow for batch in self._running)
        return (limit if may_start else 0), True


def attempt(run: Run, items: list[Any]) -> list[Any]:
    """One result an item; an exception stands for the result of an item that failed.

    A batch that fails is halved until the item at fault stands alone, so only that item fails.
    """
    try:
        results = list(run(items))
        if len(results) != len(items):
            raise RuntimeError(f"the model gave {len(results)} results for {len(items)} items")
        return results
    except Exception as error:  # whatever a model raises must not end the thread
        failure = error
    if len(items) == 1:
        logger.error("an item failed", exc_info=failure)
        return [failure]
    half = len(items) // 2
    return attempt(run, items[:half]) + attempt(run, items[half:])
