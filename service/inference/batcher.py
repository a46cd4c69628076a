"""The batcher: items of many requests gather while a batch runs, and go together when it ends.

One per model. There is no timer: an idle model takes a lone item at once, a busy one finds more waiting.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from service.errors import DeadlineExceeded, Draining, InferenceFailed, Overloaded
from service.inference.lanes import Batch, Inline, Lanes, Run, Runner
from service.inference.queue import DropReason, Group, Queue

logger = logging.getLogger(__name__)

# How often waiting calls are looked after: a timer for each would cost a fast call more than its share of a batch.
_SWEEP_SECONDS = 0.05
# So many batches in a row that failed whole are no matter of what was in them.
_FAILURES = 10


class Observer(Protocol):
    """What is told of every batch; called on the event loop."""

    def batch(self, size: int, queued: Sequence[float], seconds: float) -> None:
        """`size` items ran in `seconds`, having waited `queued` seconds each."""

    def dropped(self, reason: DropReason, count: int) -> None:
        """`count` items left the queue without being run."""


class Batcher:
    """Groups items into batches for `run`.

    Args:
        run: takes a list of items and returns as many results. If it raises, the batch is halved until the item at
            fault stands alone, so only that item fails.
        max_batch: the most items in a batch.
        max_queue: the most items that wait; more are refused.
        observer: is told of batches and drops.
        name: of the threads.
        lanes: how many batches may run side by side on threads; 0: they run on the event loop.
        run_narrow: like `run`, on a single core, for batches side by side; needed where there are several lanes.
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
        self._max_queue = max_queue
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._queue = Queue(max_batch)
        self._waiting: set[Group] = set()
        self._sweeping = False
        self._waking = False
        self._closed = False
        self._failed_batches = 0
        self.runner: Runner
        if lanes:
            self.runner = Lanes(self._queue, self, run, max_batch, name=name, count=lanes, run_narrow=run_narrow)
        else:
            self.runner = Inline(self._queue, self, run, max_batch)

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self._queue)

    def enqueue(
        self,
        items: Sequence[Any],
        *,
        timeout: float = math.inf,
        priority: int = 0,
        on_wait: Callable[[Group], None] | None = None,
    ) -> Group:
        """Queues items to be run; the returned group's `future` gets their results, in order.

        The future raises `DeadlineExceeded` once `timeout` has passed, and `InferenceFailed` if an item made the model
        fail; its `index` is the item's place. A caller gives up its items by ending the future (cancelling it, or
        setting an exception).

        Args:
            items: at least one; they may end up in different batches.
            timeout: seconds until the answer is of no use.
            priority: lower goes first.
            on_wait: called once, on the event loop, if they take longer than a twentieth of a second or so.

        Raises:
            Overloaded: the queue is full, or the wait would exceed `timeout`.
            Draining: the batcher is closing.
        """
        now = time.monotonic()
        self.admit(len(items), timeout)
        group = Group(self._loop.create_future(), [None] * len(items), len(items), now, now + timeout, on_wait)
        self._waiting.add(group)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        self._queue.push(group, items, priority)
        if not self._waking:
            # After whatever else the loop has ready now: requests that came together go together.
            self._waking = True
            self._loop.call_soon(self._wake)
        return group

    def admit(self, count: int, timeout: float) -> None:
        """Refuses so many items now rather than after the work of making them.

        Raises:
            Overloaded: as `enqueue` says.
            Draining: likewise.
        """
        if self._closed:
            raise Draining("The server is shutting down: send the request to another one.")
        waiting = len(self._queue)
        wait = (waiting + self.runner.in_flight) * self.runner.seconds_per_item
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

    def trouble(self, limit: float) -> str | None:
        """What is wrong with the model, if it hangs or fails at everything.

        Args:
            limit: seconds that no batch takes.
        """
        if (seconds := self.runner.running_seconds()) > limit:
            return f"a batch has been running for {seconds:.0f} s"
        if self._failed_batches >= _FAILURES:
            return f"the last {self._failed_batches} batches failed whole"
        return None

    async def close(self, timeout: float | None = None) -> None:
        """Refuses new items and finishes those accepted; leaves a model that hangs after `timeout` seconds."""
        self._closed = True
        await self.runner.close(timeout)

    def _wake(self) -> None:
        self._waking = False
        self.runner.wake()

    def _sweep(self) -> None:
        """Ends the calls whose time is up, and tells those that wait for long."""
        now = time.monotonic()
        ended = False
        for group in list(self._waiting):
            waited = now - group.submitted
            if group.future.done():
                self._waiting.discard(group)
                ended = True
            elif now >= group.deadline:
                group.future.set_exception(
                    DeadlineExceeded(f"No answer within {waited:.1f} s: try again, or allow more time.")
                )
                self._waiting.discard(group)
                ended = True
            elif group.on_wait is not None and waited >= _SWEEP_SECONDS:
                notify, group.on_wait = group.on_wait, None
                notify(group)
        if ended:
            self.dropped(self._queue.purge())
        self._sweeping = bool(self._waiting)
        if self._sweeping:
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    # What the runner tells, on the event loop.

    def dropped(self, counts: Mapping[DropReason, int]) -> None:
        """Passes on how many items left the queue without being run."""
        for reason, count in counts.items():
            self._observer.dropped(reason, count)

    def deliver(self, batch: Batch) -> None:
        """Answers the calls whose last items were in `batch`."""
        queued = []
        failed = all(isinstance(result, Exception) for result in batch.results)
        self._failed_batches = self._failed_batches + 1 if failed else 0
        for (_, _, _, group, index, _), result in zip(batch.entries, batch.results, strict=True):
            waited = batch.started - group.submitted
            queued.append(waited)
            group.timing.queue = max(group.timing.queue, waited)
            group.timing.inference = max(group.timing.inference, batch.seconds)
            group.results[index] = result
            group.missing -= 1
            if group.missing == 0:
                self._waiting.discard(group)
                if not group.future.done():
                    self._answer(group)
        self._observer.batch(len(batch.entries), queued, batch.seconds)

    @staticmethod
    def _answer(group: Group) -> None:
        for index, result in enumerate(group.results):
            if isinstance(result, Exception):
                error = InferenceFailed(f"The model failed on this input: {result}", index=index)
                error.__cause__ = result
                group.future.set_exception(error)
                return
        group.future.set_result(group.results)
