"""The batcher: admission and batching for one model. It answers the calls whose items have run."""

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from service.errors import Abandoned, DeadlineExceeded, Draining, InferenceFailed, Overloaded
from service.inference.context import Context
from service.inference.queue import DropReason, Queue, Submission
from service.inference.scheduler import Batch, Flow, Run, Scheduler

logger = logging.getLogger(__name__)

# How often waiting calls are looked after: a timer for each would cost a fast call more than its share of a batch.
_SWEEP_SECONDS = 0.05
# Those who were refused are told to come back so much further apart than the model would need for them.
_SPACING = 2.0
# A wait so short needs no thought.
_NEGLIGIBLE_SECONDS = 0.005
# A call is admitted with all its items up to two batches or so many; those after them wait for room.
_COUNTED = 16
# So long is room kept for a call whose body has not come yet.
_READING_SECONDS = 2.0
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
        self._max_queue = max_queue
        self._max_wait = max_wait
        self._counted = max(2 * max_batch, _COUNTED)
        self._negligible = min(_NEGLIGIBLE_SECONDS, max_wait / 4)
        self.observer = observer
        self._scheduler = scheduler
        self._loop = asyncio.get_running_loop()
        queue = Queue(max_batch, scheduler.lock if scheduler else contextlib.nullcontext())
        self.flow = Flow(queue, max_batch, run, run_on_one_core, self._deliver, self._dropped, seconds_per_item)
        self._waiting: set[Submission] = set()
        self._sweeping = False
        self._waking = False
        self._closed = False
        self._drained = asyncio.Event()
        self._failed_batches = 0
        self._probe = probe
        self._probing = self._broken = False
        # What turning an input into an item costs, while all cores do it.
        self._cores = cores
        self._seconds_to_prepare = 0.0
        # Items that admitted calls are going to submit; those of calls that have one.
        self._reserved = self._reserved_lone = 0
        # Items of calls whose bodies are being read, and since when.
        self._unread = 0
        self._reading: deque[tuple[float, Context]] = deque()
        # Until when those that were refused have been told to stay away, and how many items a call has whose body did
        # not tell.
        self._promised = 0.0
        self._items_per_call = 1.0
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
        """Learns what an item costs before it is queued: it took `seconds`, and a core was busy with it for `busy`."""
        self.observer.prepared(seconds)
        before = self._seconds_to_prepare
        self._seconds_to_prepare = before + (busy / self._cores - before) * (0.1 if before else 1.0)

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
        if count > context.reserved or self._closed:
            self._check(count, context)
            self._reserve(count, context)
        self._reserve(context.reserved - count, context)
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

    def admit(self, count: int, context: Context) -> None:
        """Reserves room for the items of a call, before the work of making them.

        It is kept until they are submitted; whoever began the call releases what is left. Of a long call not all items
        are counted: the later ones wait for room.

        Args:
            count: all items of the call.
            context: of the call; `single` is set.

        Raises:
            Overloaded: as `submit` says.
            Draining: likewise.
            DeadlineExceeded: the call has gone without progress for too long already.
        """
        if context.unread:
            self._end_reading(context)
        counted = min(count, self._counted)
        if not context.single:
            self._items_per_call += (counted - self._items_per_call) * 0.05
        if context.single != (count == 1):
            self.release(context)
            context.single = not context.single
        if counted > context.reserved or self._closed:
            self._check(counted, context)
            self._reserve(counted, context)

    def admit_unread(self, context: Context, small: bool) -> None:
        """Makes sure of room for a call whose items have not been counted yet: for as many as calls have of late.

        Where the body is large, room is kept for a while against others with a large body. Whoever's body is there
        already goes first: a client that sends slowly keeps nobody out.

        Args:
            context: of the call.
            small: whether its body comes at once, as a rule.

        Raises:
            Overloaded: as `submit` does.
            Draining: likewise.
        """
        count = 1 if context.single else math.ceil(self._items_per_call)
        self._check(count, context, 0 if small else self._unread)
        context.admitted = True
        if small:
            return
        context.unread = count
        self._unread += count
        if not self._reading:
            self._loop.call_later(_READING_SECONDS, self._let_go)
        self._reading.append((time.monotonic(), context))

    def _end_reading(self, context: Context) -> None:
        self._unread -= context.unread
        context.unread = 0

    def _let_go(self) -> None:
        """Gives back the room of calls whose bodies take long."""
        long_ago = time.monotonic() - _READING_SECONDS
        while self._reading and (self._reading[0][0] <= long_ago or not self._reading[0][1].unread):
            self._end_reading(self._reading.popleft()[1])
        if self._reading:
            self._loop.call_later(_READING_SECONDS / 4, self._let_go)

    def release(self, context: Context) -> None:
        """Gives back the room of items that the call will not submit."""
        if context.unread:
            self._end_reading(context)
        if context.reserved:
            self._reserve(0, context)

    def _check(self, count: int, context: Context, unread: int = 0) -> None:
        """Makes sure of room for `count` items, beside what is queued and reserved, and `unread` items."""
        if self._closed:
            raise Draining("The server is shutting down: send the request to another one.")
        flow = self.flow
        queue = flow.queue
        # Not by `len`, which would cost a call more.
        queued, reserved = len(queue.lone) + len(queue.others), self._reserved - context.reserved + unread
        full = queued + reserved + count > self._max_queue
        # Far from every bound, as nearly always: what follows costs more than a small network.
        each = flow.seconds_per_item + self._seconds_to_prepare
        if not full and (queued + reserved + flow.in_flight) * each < self._negligible:
            return
        if context.single:
            # Half of each batch is for such items.
            queued = min(queued, 2 * len(queue.lone))
            reserved = min(reserved, 2 * (self._reserved_lone - context.reserved) + unread)
        wait = (queued + reserved + flow.in_flight) * flow.seconds_per_item + reserved * self._seconds_to_prepare
        if wait and self._scheduler:
            wait += self._scheduler.seconds_for_others(flow, wait)
        left = min(self._max_wait, context.deadline - time.monotonic())
        if left <= 0:
            context.check()
        if full:
            raise self._refusal(
                f"{len(queue)} items wait already and at most {self._max_queue} may", wait - left, count
            )
        if wait > left:
            why = f"The wait would be about {wait:.1f} s, longer than the {left:.1f} s that this request may wait"
            raise self._refusal(why, wait - left, count)
        # Near a bound chance decides about new calls (random early detection; Floyd and Jacobson 1993). Otherwise
        # those who ask again at once would take all that becomes free, and nothing would be left for those who come
        # back when they were told to.
        filled = max(wait / left, (queued + reserved) / self._max_queue)
        new = not context.admitted and not context.reserved and not context.next_round
        if new and filled > 0.5 and random.random() < 2 * filled - 1:  # noqa: S311 - chance, no secret
            raise self._refusal(f"Others wait for {wait:.1f} s already, and not all requests can be let in", 0.0, count)

    def _reserve(self, count: int, context: Context) -> None:
        """Makes `count` the number of items that room is kept for."""
        more = count - context.reserved
        self._reserved += more
        if context.single:
            self._reserved_lone += more
        context.reserved = count

    def _refusal(self, why: str, seconds: float, count: int) -> Overloaded:
        """A refusal of `count` items that says when to come back: in `seconds` at the earliest.

        Those who are refused are told different times, as far apart as the model needs for twice as many.
        """
        now = time.monotonic()
        self._promised = max(self._promised, now + max(0.0, seconds))
        retry_after = self._promised - now
        each = self.flow.seconds_per_item + self._seconds_to_prepare
        self._promised += _SPACING * count * each
        return Overloaded(f"{why}: try again later.", retry_after=retry_after)

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
        if self._closed:
            return
        self._closed = True
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
                    if now - submission.submitted >= _SWEEP_SECONDS:
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
        if self._failed_batches < _FAILURES or self._broken or self._probing or self._closed:
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
        if self._closed and not self._waiting and not self.flow.in_flight:
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
