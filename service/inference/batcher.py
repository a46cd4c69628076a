"""The batcher: items of many requests gather while a batch runs, and go together when it ends.

One per model. There is no timer: an idle model takes a lone item at once, a busy one finds more waiting. The
model's own thread takes what waits, runs it and takes again, so the device never idles for an event loop that is
busy decoding; each batch costs the loop one wake-up.
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


class Batcher:
    """Groups items into batches for `run`, on a thread of its own.

    Args:
        run: takes a list of items and returns as many results; called on the batcher's thread. If it raises, the
            batch is halved until the item at fault stands alone, so only that item fails.
        max_batch: the most items in a batch.
        max_queue: the most items that wait; more are refused.
        observer: is told of batches and drops.
        name: of the thread.
    """

    def __init__(self, run: Run, *, max_batch: int, max_queue: int, observer: Observer, name: str = "batcher") -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_queue = max_queue
        # One call fills at most a quarter of a round, so that small ones never wait for all of a large one.
        self._share = max(1, max_batch // 4)
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._heap: list[_Entry] = []
        self._order = itertools.count()
        self._round = 0
        self._running = 0
        self._seconds_per_item = 0.0
        self._waiting: set[Group] = set()
        self._sweeping = False
        self._waking = False
        self._closed = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

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
        """Refuses new items, finishes those accepted, ends the thread (or leaves it after `timeout` seconds)."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, timeout)
        if self._thread.is_alive():
            logger.error("%s did not end within %s s: its model hangs", self._thread.name, timeout)
        # The last batch's answers are callbacks that the loop has yet to run.
        await asyncio.sleep(0)

    def _admit(self, count: int, timeout: float) -> None:
        if self._closed:
            raise Draining("The server is shutting down: send the request to another one.")
        waiting = len(self._heap)
        wait = (waiting + self._running) * self._seconds_per_item
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

    # From here on: the batcher's thread.

    def _work(self) -> None:
        while batch := self._take():
            started = time.monotonic()
            results = self._attempt([entry[5] for entry in batch])
            ended = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._deliver, batch, results, started, ended)
            except RuntimeError:
                logger.warning("the event loop ended before a batch of %d was answered", len(batch))
                return

    def _take(self) -> list[_Entry]:
        """The next batch, once there is one; empty when closed and drained."""
        batch: list[_Entry] = []
        dropped: dict[DropReason, int] = {"abandoned": 0, "expired": 0}
        with self._wake:
            self._running = 0
            while True:
                while self._heap and len(batch) < self._max_batch:
                    entry = heapq.heappop(self._heap)
                    group = entry[3]
                    if not group.future.done():
                        batch.append(entry)
                    elif time.monotonic() >= group.deadline:
                        dropped["expired"] += 1
                    else:
                        dropped["abandoned"] += 1
                if batch or self._closed:
                    break
                self._report(dropped)  # the next batch may be long in coming
                self._wake.wait()
            if batch:
                self._round = max(self._round, batch[-1][1]) + 1
            self._running = len(batch)
        self._report(dropped)
        return batch

    def _report(self, dropped: dict[DropReason, int]) -> None:
        for reason, count in dropped.items():
            if count and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._observer.dropped, reason, count)
            dropped[reason] = 0

    def _attempt(self, items: list[Any]) -> list[Any]:
        """One result an item; an exception stands for the result of an item that failed."""
        try:
            results = list(self._run(items))
            if len(results) != len(items):
                raise RuntimeError(f"the model gave {len(results)} results for {len(items)} items")
            return results
        except Exception as error:  # whatever a model raises must not end the thread
            failure = error
        if len(items) == 1:
            logger.error("an item failed", exc_info=failure)
            return [failure]
        half = len(items) // 2
        return self._attempt(items[:half]) + self._attempt(items[half:])

    # And back on the event loop.

    def _deliver(self, batch: list[_Entry], results: list[Any], started: float, ended: float) -> None:
        seconds = ended - started
        # A moving average over about ten batches.
        rate = seconds / len(batch)
        self._seconds_per_item += (rate - self._seconds_per_item) * (0.1 if self._seconds_per_item else 1.0)
        queued = []
        for (_, _, _, group, index, _), result in zip(batch, results, strict=True):
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
        self._observer.batch(len(batch), queued, seconds)

    @staticmethod
    def _answer(group: Group) -> None:
        for index, result in enumerate(group.results):
            if isinstance(result, Exception):
                error = InferenceFailed(f"The model failed on this input: {result}", index=index)
                error.__cause__ = result
                group.future.set_exception(error)
                return
        group.future.set_result(group.results)
