"""The batcher: items of many requests gather while a batch runs, and go together when it ends.

One per model. There is no timer: an idle model takes a lone item at once, a busy one finds more waiting. The
model's own threads take what waits, run it and take again, so the device never idles for an event loop that is
busy decoding; each batch costs the loop one wake-up.

A CPU has lanes. While little waits, one batch at a time runs on all cores, which answers soonest. When more waits,
each lane runs batches of its own on one core: no core then waits for another at the end of every layer, which is
worth the more, the more the cores have to do beside (the event loop, a client).
"""

import asyncio
import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from service.errors import DeadlineExceeded, Draining, InferenceFailed, Overloaded

logger = logging.getLogger(__name__)

# How often waiting calls are looked after: a timer for each would cost a fast call more than its share of a batch.
_SWEEP_SECONDS = 0.05

# Batches side by side pay where what waits takes longer than this; below, handing over costs more than it gains.
_LONG_SECONDS = 0.005

Run = Callable[[list[Any]], Sequence[Any]]
DropReason = Literal["abandoned", "expired"]


class Observer(Protocol):
    """What is told of every batch; called on the event loop."""

    def batch(self, size: int, queued: Sequence[float], seconds: float) -> None:
        """`size` items ran in `seconds`, having waited `queued` seconds each."""

    def dropped(self, reason: DropReason, count: int) -> None:
        """`count` items left the queue without being run."""


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
_Entry = tuple[int, int, int, Group, int, Any]


@dataclass(slots=True, eq=False)
class _Batch:
    """Entries that run together, on one core (narrow) or on all."""

    entries: list[_Entry]
    narrow: bool


class Batcher:
    """Groups items into batches for `run`, on threads of its own.

    Args:
        run: takes a list of items and returns as many results; called on a thread of the batcher's. If it raises,
            the batch is halved until the item at fault stands alone, so only that item fails.
        max_batch: the most items in a batch.
        max_queue: the most items that wait; more are refused.
        observer: is told of batches and drops.
        name: of the threads.
        lanes: how many batches may run side by side.
        run_narrow: like `run`, on a single core, for batches side by side; needed where there are lanes.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch: int,
        max_queue: int,
        observer: Observer,
        name: str = "batcher",
        lanes: int = 1,
        run_narrow: Run | None = None,
    ) -> None:
        self._run = run
        self._run_narrow = run_narrow or run
        self._lanes = lanes
        self._max_batch = max_batch
        self._max_queue = max_queue
        # One call fills at most a quarter of a round, so that small ones never wait for all of a large one.
        self._share = max(1, max_batch // 4)
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._heap: list[_Entry] = []
        self._order = itertools.count()
        self._round = 0
        self._running: list[_Batch] = []
        self._seconds_per_item = 0.0
        self._waiting: set[Group] = set()
        self._sweeping = False
        self._waking = False
        self._closed = False
        self._wake = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{lane}", daemon=True) for lane in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self._heap)

    async def submit(
        self, items: Sequence[Any], *, timeout: float = math.inf, priority: int = 0
    ) -> tuple[list[Any], Timing]:
        """Runs `items` and returns their results, in order.

        Args:
            items: at least one; they may end up in different batches.
            timeout: seconds until the answer is of no use.
            priority: lower goes first.

        Returns:
            The results and how long they took.

        Raises:
            Overloaded: the queue is full, or the wait would exceed `timeout`.
            DeadlineExceeded: `timeout` passed.
            Draining: the batcher is closing.
            InferenceFailed: an item made the model fail; its `index` is the item's place.
            asyncio.CancelledError: the caller was cancelled; its items are dropped.
        """
        group = self.enqueue(items, timeout=timeout, priority=priority)
        return await group.future, group.timing

    def enqueue(
        self,
        items: Sequence[Any],
        *,
        timeout: float = math.inf,
        priority: int = 0,
        on_wait: Callable[[Group], None] | None = None,
    ) -> Group:
        """As `submit`, without waiting: the returned group's `future` gets the results.

        `on_wait` is called once, on the event loop, if they take longer than a twentieth of a second or so. A caller
        gives up its items by ending the future (cancelling it, or setting an exception).
        """
        now = time.monotonic()
        self._admit(len(items), timeout)
        group = Group(self._loop.create_future(), [None] * len(items), len(items), now, now + timeout, on_wait)
        self._waiting.add(group)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        with self._wake:
            for index, item in enumerate(items):
                turn = self._round + index // self._share
                heapq.heappush(self._heap, (priority, turn, next(self._order), group, index, item))
        if not self._waking:
            # After whatever else the loop has ready now: requests that came together go together.
            self._waking = True
            self._loop.call_soon(self._wake_up)
        return group

    async def close(self, timeout: float | None = None) -> None:
        """Refuses new items, finishes those accepted, ends the threads (or leaves one after `timeout` seconds)."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, timeout)
            if thread.is_alive():
                logger.error("%s did not end within %s s: its model hangs", thread.name, timeout)
        # The last batch's answers are callbacks that the loop has yet to run.
        await asyncio.sleep(0)

    def _admit(self, count: int, timeout: float) -> None:
        if self._closed:
            raise Draining("The server is shutting down: send the request to another one.")
        waiting = len(self._heap)
        wait = (waiting + sum(len(batch.entries) for batch in self._running)) * self._seconds_per_item
        if waiting + count > self._max_queue:
            raise Overloaded(
                f"{waiting} items wait already and at most {self._max_queue} may: try again later.",
                retry_after=wait,
            )
        if wait > timeout:
            raise Overloaded(
                f"The wait would be about {wait:.1f} s, longer than the {timeout:.1f} s that this request has: "
                "try again later.",
                retry_after=wait - timeout,
            )

    def _wake_up(self) -> None:
        self._waking = False
        with self._wake:
            if self._may_start()[0]:
                self._wake.notify()

    def _sweep(self) -> None:
        """Ends the calls whose time is up, and tells those that wait for long."""
        now = time.monotonic()
        for group in list(self._waiting):
            waited = now - group.submitted
            if group.future.done():
                self._waiting.discard(group)
            elif now >= group.deadline:
                group.future.set_exception(
                    DeadlineExceeded(f"No answer within {waited:.1f} s: try again, or allow more time.")
                )
                self._waiting.discard(group)
            elif group.on_wait is not None and waited >= _SWEEP_SECONDS:
                notify, group.on_wait = group.on_wait, None
                notify(group)
        self._sweeping = bool(self._waiting)
        if self._sweeping:
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    # From here on: the batcher's threads.

    def _work(self) -> None:
        while batch := self._take():
            started = time.monotonic()
            results = self._attempt(self._run_narrow if batch.narrow else self._run, [e[5] for e in batch.entries])
            ended = time.monotonic()
            with self._wake:
                self._running.remove(batch)
            try:
                self._loop.call_soon_threadsafe(self._deliver, batch, results, started, ended)
            except RuntimeError:
                logger.warning("the event loop ended before a batch of %d was answered", len(batch.entries))
                return

    def _take(self) -> "_Batch | None":
        """The next batch, once one may start; None when closed and drained."""
        dropped: dict[DropReason, int] = {"abandoned": 0, "expired": 0}
        batch = None
        with self._wake:
            while batch is None:
                limit, narrow = self._may_start()
                entries = self._pop(limit, dropped)
                if entries:
                    self._round = max(self._round, entries[-1][1]) + 1
                    batch = _Batch(entries, narrow)
                    self._running.append(batch)
                elif self._closed and not self._heap:
                    break
                else:
                    self._report(dropped)  # the next batch may be long in coming
                    self._wake.wait()
            if self._closed and not self._heap:
                self._wake.notify_all()  # lanes that waited for the last items to be taken may end now
            elif self._heap and self._may_start()[0]:
                self._wake.notify()
        self._report(dropped)
        return batch

    def _may_start(self) -> tuple[int, bool]:
        """How many items a batch may have that starts now (0: none may), and whether it has to be narrow."""
        if self._lanes == 1:
            return self._max_batch, False
        waiting = len(self._heap)
        crowded = waiting >= 2 * self._lanes and waiting * self._seconds_per_item >= _LONG_SECONDS
        # What waits is shared out, so that no lane takes all and leaves the next one with nothing.
        limit = min(self._max_batch, math.ceil(waiting / self._lanes)) if crowded else self._max_batch
        if not self._running:
            return limit, crowded
        # Beside a batch that has all cores, another one pays only if much waits.
        may_start = crowded or all(batch.narrow for batch in self._running)
        return (limit if may_start else 0), True

    def _pop(self, limit: int, dropped: dict[DropReason, int]) -> list[_Entry]:
        """The first `limit` entries that somebody still waits for."""
        entries: list[_Entry] = []
        while self._heap and len(entries) < limit:
            entry = heapq.heappop(self._heap)
            group = entry[3]
            if not group.future.done():
                entries.append(entry)
            else:
                dropped["expired" if time.monotonic() >= group.deadline else "abandoned"] += 1
        return entries

    def _report(self, dropped: dict[DropReason, int]) -> None:
        for reason, count in dropped.items():
            if count and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._observer.dropped, reason, count)
            dropped[reason] = 0

    def _attempt(self, run: Run, items: list[Any]) -> list[Any]:
        """One result an item; an exception stands for the result of an item that failed."""
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
        return self._attempt(run, items[:half]) + self._attempt(run, items[half:])

    # And back on the event loop.

    def _deliver(self, batch: _Batch, results: list[Any], started: float, ended: float) -> None:
        seconds = ended - started
        # A moving average over about ten batches.
        rate = seconds / len(batch.entries) / (self._lanes if batch.narrow else 1)
        self._seconds_per_item += (rate - self._seconds_per_item) * (0.1 if self._seconds_per_item else 1.0)
        queued = []
        for (_, _, _, group, index, _), result in zip(batch.entries, results, strict=True):
            waited = started - group.submitted
            queued.append(waited)
            group.timing.queue = max(group.timing.queue, waited)
            group.timing.inference = max(group.timing.inference, seconds)
            group.results[index] = result
            group.missing -= 1
            if group.missing == 0:
                self._waiting.discard(group)
                if not group.future.done():
                    self._answer(group)
        self._observer.batch(len(batch.entries), queued, seconds)

    @staticmethod
    def _answer(group: Group) -> None:
        for index, result in enumerate(group.results):
            if isinstance(result, Exception):
                error = InferenceFailed(f"The model failed on this input: {result}", index=index)
                error.__cause__ = result
                group.future.set_exception(error)
                return
        group.future.set_result(group.results)
