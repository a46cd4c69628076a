"""The batcher: puts the items of many calls into batches for one model, and answers the calls whose items have run."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from service.errors import Abandoned, DeadlineExceeded, InferenceFailed, Overloaded
from service.inference.admission import Admission
from service.inference.context import Context
from service.inference.queue import DropReason, Queue, Submission
from service.inference.scheduler import Batch, Flow, Run, Scheduler

logger = logging.getLogger(__name__)

# How often waiting calls are looked after: a timer for each would cost a fast call more than its share of a batch.
_SWEEP_SECONDS = 0.05
# A call that takes longer has its client watched, which takes a task of its own.
_SLOW_SECONDS = 0.1
# After this many consecutive failed batches the model itself is suspected.
_FAILURES = 10


class Observer(Protocol):
    """Receives a model's metrics; called on the event loop."""

    def prepared(self, seconds: float) -> None:
        """An input was turned into an item in `seconds`."""

    def batch(self, size: int, queued: Sequence[float], seconds: float) -> None:
        """`size` items ran in `seconds`, having waited `queued` seconds each."""

    def dropped(self, reason: DropReason, count: int) -> None:
        """`count` items left the queue without being run."""


class NullObserver:
    """An observer that keeps no metrics."""

    def prepared(self, seconds: float) -> None: ...

    def batch(self, size: int, queued: Sequence[float], seconds: float) -> None: ...

    def dropped(self, reason: DropReason, count: int) -> None: ...


class Batcher:
    """Groups the items of many calls into batches for one model.

    Args:
        run: runs a batch. If it raises, the batch is halved until the item at fault stands alone, so only that item
            fails.
        max_batch: the most items in a batch.
        max_queue: the most items that wait; more are refused.
        max_wait: seconds of work that may wait; a call that would wait for longer is refused.
        observer: receives metrics of batches and drops.
        scheduler: runs the batches; None: they run on the event loop itself, between its other callbacks. That is for
            models whose largest batch takes less time than a hand-over to a thread and back.
        run_on_one_core: like `run`, on a single core, for batches side by side.
        seconds_per_item: what an item costs, as far as it is known beforehand.
        cores: of the CPU, on which inputs are turned into items.
        probe: an item that the model is known to be good at; tells a broken model from bad items.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch: int,
        max_queue: int,
        observer: Observer,
        scheduler: Scheduler | None,
        max_wait: float = math.inf,
        run_on_one_core: Run | None = None,
        seconds_per_item: float = 0.0,
        cores: int = 1,
        probe: Any = None,
    ) -> None:
        self.max_batch = max_batch
        self.observer = observer
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        queue = Queue(max_batch, scheduler.lock if scheduler else contextlib.nullcontext())
        self.flow = Flow(queue, max_batch, run, run_on_one_core, self._deliver, self._dropped, seconds_per_item)
        self._waiting: set[Submission] = set()
        self._sweeping = False
        self._waking = False
        self._drained = asyncio.Event()
        self._failed_batches = 0
        self._probe = probe
        self._probing = self._broken = False
        self.admission = Admission(self.flow, scheduler, max_queue, max_wait, cores)
        if scheduler:
            scheduler.add(self.flow)

    @property
    def in_flight(self) -> int:
        """How many batches of one call keep the device busy: two, or as many as give each core something to do."""
        cores = self._scheduler.threads if self._scheduler and self.flow.run_on_one_core else 1
        return max(2, math.ceil(3 * cores / self.max_batch))

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self.flow.queue)

    def prepared(self, seconds: float, busy: float) -> None:
        """An input was turned into an item in `seconds`, for which a core was busy for `busy`."""
        self.observer.prepared(seconds)
        self.admission.prepared(busy)

    def submit(self, items: Sequence[Any], context: Context) -> Submission:
        """Queues items to be run; the returned submission's `future` gets their results, in order.

        The future raises `DeadlineExceeded` once the context's deadline has passed, `Abandoned` when the context is
        cancelled, and `InferenceFailed` if an item made the model fail; its `index` is the item's.

        Args:
            items: at least one; they may end up in different batches.
            context: of the call.

        Raises:
            Overloaded: no room was kept for them, and the queue is full, or the wait would last longer than it may,
                or beyond the deadline.
            Draining: the batcher is closed.
        """
        count = len(items)
        self.admission.take(count, context)
        submission = Submission(self._loop.create_future(), [None] * count, count, time.monotonic(), context)
        self._waiting.add(submission)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        self.flow.queue.push(submission, items)
        if not self._waking:
            # After whatever else the loop has ready now: requests that came together share a batch.
            self._waking = True
            self._loop.call_soon(self._wake)
        return submission

    def trouble(self, limit: float) -> str | None:
        """What is wrong with the model, if it hangs or fails at everything.

        Args:
            limit: seconds that no batch takes.
        """
        if self._scheduler and (seconds := self._scheduler.running_seconds(self.flow)) > limit:
            return f"a batch has been running for {seconds:.0f} s"
        if self._broken:
            return f"the last {self._failed_batches} batches failed whole"
        return None

    async def close(self, timeout: float | None = None) -> None:
        """Refuses new items and finishes those accepted; gives up on a model that hangs after `timeout` seconds."""
        if self.admission.closed:
            return
        self.admission.closed = True
        if self._waiting or self.flow.in_flight:
            try:
                await asyncio.wait_for(self._drained.wait(), timeout)
            except TimeoutError:
                logger.error("a batch did not end within %s s: the model hangs", timeout)
        if self._scheduler:
            self._scheduler.remove(self.flow)

    def _wake(self) -> None:
        self._waking = False
        if self._scheduler:
            self._scheduler.wake(self.flow)
        else:
            self._run_here()

    def _run_here(self) -> None:
        """Runs one batch on the event loop; what is left waits until the loop has done what else is ready."""
        flow = self.flow
        entries, dropped = flow.queue.pop(self.max_batch)
        self._dropped(dropped)
        if entries:
            batch = Batch(entries)
            batch.run(flow.run)
            flow.learn(batch)
            self._deliver(batch)
        if len(flow.queue):
            self._waking = True
            self._loop.call_soon(self._wake)

    def _sweep(self) -> None:
        """Ends the calls whose time is up, and lets those know that wait for long."""
        now = time.monotonic()
        ended = False
        try:
            for submission in list(self._waiting):
                context = submission.context
                if not submission.over and now < context.deadline:
                    if now - submission.submitted >= _SLOW_SECONDS:
                        context.slow()
                    continue
                ended = True
                self._waiting.discard(submission)
                try:
                    context.check()
                except (Abandoned, DeadlineExceeded) as error:
                    submission.expired = isinstance(error, DeadlineExceeded) and not submission.future.done()
                    submission.fail(error)
            if ended:
                self._dropped(self.flow.queue.purge())
                self._check_drained()
        finally:
            self._sweeping = bool(self._waiting)
            if self._sweeping:
                self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _dropped(self, counts: Mapping[DropReason, int]) -> None:
        for reason, count in counts.items():
            self.observer.dropped(reason, count)

    def _deliver(self, batch: Batch) -> None:
        """Answers the calls whose last items were in a batch."""
        queued = []
        self._note_failure(all(isinstance(result, Exception) for result in batch.results))
        for (_, _, _, submission, index, _), result in zip(batch.entries, batch.results, strict=True):
            waited = batch.started - submission.submitted
            queued.append(waited)
            context = submission.context
            if waited > context.queue_seconds:
                context.queue_seconds = waited
            if batch.seconds > context.inference_seconds:
                context.inference_seconds = batch.seconds
            submission.results[index] = result
            submission.missing -= 1
            if submission.missing == 0:
                self._waiting.discard(submission)
                if not submission.future.done():
                    self._answer(submission)
        self.observer.batch(len(batch.entries), queued, batch.seconds)
        self._check_drained()

    def _note_failure(self, failed: bool) -> None:
        """Counts batches in a row that failed whole; asks the model about an item it is known to be good at."""
        if not failed:
            self._failed_batches = 0
            self._broken = False
            return
        self._failed_batches += 1
        if self._failed_batches < _FAILURES or self._broken or self._probing or self.admission.closed:
            return
        if self._probe is None:
            self._broken = True
            return
        logger.warning("the last %d batches failed whole: the model is tested with an input of its own", _FAILURES)
        with contextlib.suppress(Overloaded):  # after the next failure, then
            self.submit([self._probe], Context(priority=-1)).future.add_done_callback(self._probed)
            self._probing = True

    def _probed(self, answer: asyncio.Future[list[Any]]) -> None:
        self._probing = False
        self._broken = answer.exception() is not None

    def _check_drained(self) -> None:
        if self.admission.closed and not self._waiting and not self.flow.in_flight:
            self._drained.set()

    @staticmethod
    def _answer(submission: Submission) -> None:
        for index, result in enumerate(submission.results):
            if isinstance(result, Exception):
                error = InferenceFailed(f"The model failed on this input: {result}", index=index)
                error.__cause__ = result
                submission.fail(error)
                return
        submission.future.set_result(submission.results)
