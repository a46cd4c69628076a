"""The batcher: puts the items of many calls into batches for one model, and answers the calls whose items have run."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

from service.errors import Abandoned, DeadlineExceeded, InferenceFailed, Overloaded
from service.inference.admission import Admission, Reservation
from service.inference.call import BACKGROUND, QueuedCall
from service.inference.manifest import without_folders
from service.inference.observers import BatchRan, DropReason, ItemsDropped, Label, Observers
from service.inference.queue import FairQueue, Submission
from service.inference.scheduler import Batch, Flow, Run, Scheduler

logger = logging.getLogger(__name__)

# How often deadlines and cancellations are looked at; a timer for each call would cost more than its share of a batch.
_SWEEP_SECONDS = 0.05
# After this time the client of a call is watched, which takes a task of its own.
_SLOW_SECONDS = 0.1
# A call has at least this many items in the queue or in batches, so that small batches do not slow it down.
_MIN_HELD = 16
# After this many consecutive failed batches the model itself is suspected.
_FAILURES = 10


class Batcher:
    """Groups the items of many calls into batches for one model.

    Args:
        run: runs a batch; if it raises, only the faulty items fail.
        label: of the model, for observers.
        max_batch: the most items in a batch.
        max_queue: the most items that wait.
        max_wait: seconds that a call may wait.
        scheduler: runs the batches; None: they run on the event loop, between its other callbacks. That is for models
            whose largest batch takes less time than handing it over to a thread.
        observers: are told of batches and drops.
        run_on_one_core: like `run`, on a single core, for batches side by side.
        seconds_per_item: the cost of an item, as measured beforehand.
        cores: of the CPU, on which inputs become items.
        probe: an item that the model is known to answer; tells a broken model from bad items.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch: int,
        max_queue: int,
        scheduler: Scheduler | None,
        label: Label = ("", "", "", ""),
        max_wait: float = math.inf,
        observers: Observers | None = None,
        run_on_one_core: Run | None = None,
        seconds_per_item: float = 0.0,
        cores: int = 1,
        probe: Any = None,
    ) -> None:
        self.max_batch = max_batch
        self.label = label
        self._observers = observers or Observers()
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        queue = FairQueue(scheduler.lock if scheduler else contextlib.nullcontext())
        self.flow = Flow(queue, max_batch, run, run_on_one_core, self._deliver, seconds_per_item)
        # Batches of one call that keep the device busy: two, or as many as give each core something to do.
        busy = scheduler.threads if scheduler and run_on_one_core else 1
        self.in_flight = max(2, math.ceil(3 * busy / max_batch))
        self.admission = Admission(
            self.flow, scheduler, max_queue, max_wait, max(self.in_flight * max_batch, _MIN_HELD), cores
        )
        self._waiting: set[Submission] = set()
        self._sweeping = self._waking = False
        self._drained = asyncio.Event()
        self._failed_batches = 0
        self._probe = probe
        self._probing = self._broken = False
        if scheduler:
            scheduler.add(self.flow)

    @property
    def depth(self) -> int:
        """Items that wait."""
        return len(self.flow.queue)

    @property
    def others_busy(self) -> bool:
        """Whether the device works for another model at this moment."""
        return self._scheduler is not None and self._scheduler.others_busy(self.flow)

    def submit(self, items: Sequence[Any], reservation: Reservation) -> Submission:
        """Queues items of a call that was admitted; the `future` of the submission gets their results, in order.

        The future raises `DeadlineExceeded` once the deadline of the call has passed, `Abandoned` when the call is
        cancelled, and `InferenceFailed` if an item made the model fail; its `index` is the item's.

        Args:
            items: at least one; they may end up in different batches.
            reservation: from `admission.admit`.
        """
        submission = Submission(reservation.call, self._loop.create_future(), items, time.monotonic())
        self._waiting.add(submission)
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        self.flow.queue.push(reservation.backlog, submission)
        if not self._waking:
            # After whatever else the loop has ready now: requests that came together share a batch.
            self._waking = True
            self._loop.call_soon(self._wake)
        return submission

    def trouble(self, limit: float, *, failing: bool = True) -> str | None:
        """What is wrong with the model, if it hangs or fails at everything.

        Args:
            limit: seconds that no batch takes.
            failing: whether failing is trouble; a batch that hangs always is, because it occupies a thread.
        """
        if self._scheduler and (seconds := self._scheduler.running_seconds(self.flow)) > limit:
            return f"a batch has been running for {seconds:.0f} s"
        if failing and self._broken:
            return f"the last {self._failed_batches} batches failed whole"
        return None

    async def close(self, timeout: float | None = None) -> None:
        """Refuses new calls and finishes those accepted; gives up on a model that hangs after `timeout` seconds."""
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
        if not self._waiting and not self.flow.in_flight:
            self.flow.deliver = _nowhere  # breaks a reference cycle that would keep the session in memory

    def _wake(self) -> None:
        self._waking = False
        if self._scheduler:
            self._scheduler.wake(self.flow)
        else:
            self._run_here()

    def _run_here(self) -> None:
        """Runs one batch on the event loop; the rest waits until the loop has done what else is ready."""
        flow = self.flow
        if entries := flow.queue.pop(self.max_batch):
            batch = Batch(entries)
            batch.run(flow.run)
            flow.learn(batch)
            self._deliver(batch)
        if len(flow.queue):
            self._waking = True
            self._loop.call_soon(self._wake)

    def _sweep(self) -> None:
        """Ends calls that are over, and reports those that are slow."""
        now = time.monotonic()
        try:
            ended = [each for each in self._waiting if each.over or now >= each.call.deadline]
            for submission in ended:
                self._waiting.discard(submission)
                expired = not submission.over
                try:
                    submission.call.check()
                except (Abandoned, DeadlineExceeded) as error:
                    submission.fail(error)
                if submission.queued:
                    reason: DropReason = "expired" if expired else "abandoned"
                    self._observers.publish(ItemsDropped(self.label, reason, submission.queued))
            if ended:
                self.flow.queue.purge()
                self._check_drained()
            for submission in self._waiting:
                if now - submission.submitted >= _SLOW_SECONDS:
                    submission.call.slow()
        finally:
            self._sweeping = bool(self._waiting)
            if self._sweeping:
                self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _deliver(self, batch: Batch) -> None:
        """Answers the calls whose last items were in a batch."""
        self._note_failure(all(isinstance(result, Exception) for result in batch.results))
        queued: list[float] = []
        ran = BatchRan(self.label, queued, batch.started, batch.seconds)
        for (submission, index), result in zip(batch.entries, batch.results, strict=True):
            waited = batch.started - submission.submitted
            queued.append(waited)
            call = submission.call
            if waited > call.queue_seconds:
                call.queue_seconds = waited
            if batch.seconds > call.inference_seconds:
                call.inference_seconds = batch.seconds
            if call.trace is not None:
                call.trace.ran(submission.submitted, ran)
            submission.results[index] = result
            submission.missing -= 1
            if submission.missing == 0:
                self._waiting.discard(submission)
                if not submission.future.done():
                    _answer(submission)
        self._observers.publish(ran)
        self._check_drained()

    def _note_failure(self, failed: bool) -> None:
        """Counts consecutive batches that failed whole; probes the model after some of them."""
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
        logger.warning("the last %d batches failed whole: the model is probed with an input of its own", _FAILURES)
        call = QueuedCall(owner=BACKGROUND)
        with contextlib.suppress(Overloaded):  # after the next failure, then
            reservation = self.admission.admit(1, call)
            self._probing = True
            self.submit([self._probe], reservation).future.add_done_callback(lambda answer: self._probed(answer, call))

    def _probed(self, answer: asyncio.Future[list[Any]], call: QueuedCall) -> None:
        call.close()
        self._probing = False
        self._broken = answer.exception() is not None

    def _check_drained(self) -> None:
        if self.admission.closed and not self._waiting and not self.flow.in_flight:
            self._drained.set()


def _nowhere(_: Batch) -> None:
    pass


def _answer(submission: Submission) -> None:
    for index, result in enumerate(submission.results):
        if isinstance(result, Exception):
            error = InferenceFailed(f"The model failed on this input: {without_folders(str(result))}", index=index)
            error.__cause__ = result
            submission.fail(error)
            return
    submission.future.set_result(submission.results)
