"""Which batch runs next, and on which thread: the models of a device share its cores.

Each thread takes a batch, runs it and takes the next; there is no timer. Between models the one that has used the
device least goes first (start-time fair queuing; Goyal, Vin and Cheng 1997). On a CPU a lone batch runs on all cores,
which answers soonest; when many items wait, each thread runs a batch of its own on a single core, which gives more
throughput.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.inference.device import DeviceLost, end_process
from service.inference.manifest import without_folders
from service.inference.queue import Entry, FairQueue

logger = logging.getLogger(__name__)

# Batches run side by side only if the backlog is longer; otherwise handing over costs more than it gains.
LONG_SECONDS = 0.005
# The most that one batch raises the estimate of an item's cost. A single batch that was held up by another process
# would otherwise have the requests after it refused.
_MAX_SLOWDOWN = 4.0
# Weight of the last batch in that estimate.
_SMOOTHING = 0.1
# An item that costs less may run on the event loop while a single client is connected.
_SHORT_SECONDS = 0.005
# Batches that a GPU works on at a time: one is copied while the other is computed.
GPU_BATCHES = 2

# Takes items and returns as many results.
Run = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(slots=True, eq=False)
class Batch:
    """Entries that run together.

    Attributes:
        entries: from the queue.
        all_cores: whether it runs on the whole device rather than on one core.
        charged: core-seconds that its model was charged beforehand.
        results: one for each entry, an exception for an item that failed.
        started: monotonic time; 0 before.
        seconds: that it took.
    """

    entries: list[Entry]
    all_cores: bool = True
    charged: float = 0.0
    results: list[Any] = field(default_factory=list)
    started: float = 0.0
    seconds: float = 0.0

    def run(self, run: Run) -> None:
        """Fills in the results."""
        self.started = time.monotonic()
        self.results = attempt(run, self._items())
        self.seconds = time.monotonic() - self.started

    def _items(self) -> Sequence[Any]:
        (submission, start), (last, end) = self.entries[0], self.entries[-1]
        # The items of one submission leave the queue in order, so nothing else lies between these two. A slice of
        # `Rows` is not stacked.
        if submission is last and end - start + 1 == len(self.entries):
            return submission.items[start : end + 1]
        return [submission.items[index] for submission, index in self.entries]


@dataclass(slots=True, eq=False)
class Flow:
    """A model's queue and its usage of the device.

    Attributes:
        queue: items that wait, guarded by the scheduler's lock.
        max_batch: the most items in a batch.
        run: runs a batch on the whole device.
        run_on_one_core: runs a batch on one core of a CPU, beside others; None if batches cannot run side by side.
        deliver: receives each batch that has run, on the event loop.
        seconds_per_item: cost of an item when the whole device works for this model; a moving average.
        in_flight: items that are running.
        used: core-seconds of the device, as fair queuing counts them.
        running: batches.
    """

    queue: FairQueue
    max_batch: int
    run: Run
    run_on_one_core: Run | None
    deliver: Callable[[Batch], None]
    seconds_per_item: float = 0.0
    in_flight: int = 0
    used: float = 0.0
    running: list[Batch] = field(default_factory=list)

    @property
    def seconds_of_work(self) -> float:
        """How long the whole device would work for what waits and runs."""
        return (len(self.queue) + self.in_flight) * self.seconds_per_item

    def learn(self, batch: Batch, side_by_side: int = 1) -> None:
        """Updates the estimate from a finished batch; `side_by_side` of them can run at a time."""
        seconds = batch.seconds / len(batch.entries) / side_by_side
        before = self.seconds_per_item
        change = min(seconds, _MAX_SLOWDOWN * before) - before
        self.seconds_per_item = before + change * _SMOOTHING if before else seconds


class Scheduler:
    """Runs the batches of several models on threads that they share.

    Args:
        threads: how many batches may run at a time: the cores of a CPU.
        name: of the threads.
        one_client: whether a single client is connected, so that nobody else waits for the event loop.

    Attributes:
        lock: guards the queues of the models.
    """

    def __init__(self, threads: int, name: str = "scheduler", one_client: Callable[[], bool] = lambda: False) -> None:
        self.threads = threads
        self._one_client = one_client
        self.lock = threading.RLock()
        self._loop = asyncio.get_running_loop()
        self._flows: list[Flow] = []
        # The thread that became idle last is woken first: its core still has the model in its cache.
        self._idle: list[threading.Condition] = []
        self._clock = 0.0  # virtual time: `used` of the model that was served last
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def add(self, flow: Flow) -> None:
        """Registers a model."""
        with self.lock:
            self._flows.append(flow)

    def remove(self, flow: Flow) -> None:
        """Unregisters a model; its pending items are never run."""
        with self.lock:
            self._flows.remove(flow)

    def wake(self, flow: Flow) -> None:
        """Starts work on new items of a model; called on the event loop.

        A lone item of a lone client runs at once: handing it over to a thread takes longer than the rest of the call.
        """
        with self.lock:
            batch = self._next_batch(flow) if self._may_run_here(flow) else None
            if batch is None and self._may_start(flow)[0]:
                self._wake_thread()
        if batch is not None:
            self._run(flow, batch)
            flow.deliver(batch)

    def seconds_for_others(self, flow: Flow, seconds: float) -> float:
        """How long the device works for other models during `seconds` of work for `flow`: at most as long for each."""
        return sum(min(seconds, other.seconds_of_work) for other in self._flows if other is not flow)

    def others_busy(self, flow: Flow) -> bool:
        """Whether a batch of another model runs or waits."""
        return any(other.running or len(other.queue) for other in self._flows if other is not flow)

    def running_seconds(self, flow: Flow) -> float:
        """How long the oldest running batch of a model has been running; 0 if none is."""
        begun = min((batch.started for batch in list(flow.running) if batch.started), default=0.0)
        return time.monotonic() - begun if begun else 0.0

    async def close(self, timeout: float | None = None) -> None:
        """Ends the threads; leaves those whose model hangs after `timeout` seconds."""
        with self.lock:
            self._closed = True
            while self._idle:
                self._wake_thread()
        end = math.inf if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            await asyncio.to_thread(thread.join, None if timeout is None else max(0.0, end - time.monotonic()))
        if hanging := [thread.name for thread in self._threads if thread.is_alive()]:
            logger.error("%s did not end within %s s: a model hangs", ", ".join(hanging), timeout)

    def _work(self) -> None:
        work = threading.Condition(self.lock)
        try:
            while taken := self._take(work):
                flow, batch = taken
                self._run(flow, batch)
                try:
                    self._loop.call_soon_threadsafe(flow.deliver, batch)
                except RuntimeError:
                    logger.warning("the event loop ended before a batch was answered")
                del taken, flow, batch  # an idle thread must not keep a retired model alive
        except DeviceLost as lost:
            end_process(lost)

    def _run(self, flow: Flow, batch: Batch) -> None:
        """Runs a batch and settles what its model was charged."""
        batch.run(flow.run if batch.all_cores else flow.run_on_one_core or flow.run)
        with self.lock:
            flow.running.remove(batch)
            flow.in_flight -= len(batch.entries)
            flow.used += batch.seconds * (self.threads if batch.all_cores else 1) - batch.charged
            flow.learn(batch, 1 if batch.all_cores else self.threads)

    def _take(self, work: threading.Condition) -> tuple[Flow, Batch] | None:
        """The next batch, once one may start; None when the scheduler is closed."""
        with self.lock:
            while not self._closed:
                waiting = [flow for flow in self._flows if len(flow.queue)]
                for flow in sorted(waiting, key=lambda flow: flow.used) if len(waiting) > 1 else waiting:
                    if batch := self._next_batch(flow):
                        if any(self._may_start(flow)[0] for flow in self._flows if len(flow.queue)):
                            self._wake_thread()
                        return flow, batch
                self._idle.append(work)
                work.wait()
        return None

    def _wake_thread(self) -> None:
        if self._idle:
            self._idle.pop().notify()

    def _next_batch(self, flow: Flow) -> Batch | None:
        """A batch of the model, if one may start now."""
        limit, all_cores = self._may_start(flow)
        entries = flow.queue.pop(limit)
        if not entries:
            return None
        # An idle model earns no credit.
        self._clock = flow.used = max(flow.used, self._clock)
        # Charged at once, so that the next thread does not take this model for the least served again.
        batch = Batch(entries, all_cores, len(entries) * flow.seconds_per_item * self.threads)
        flow.used += batch.charged
        flow.in_flight += len(entries)
        flow.running.append(batch)
        return batch

    def _may_start(self, flow: Flow) -> tuple[int, bool]:
        """How many items a batch that starts now may have (0: none may start), and whether it gets all cores."""
        if flow.run_on_one_core is None:
            return (0 if flow.running else flow.max_batch), True
        waiting = len(flow.queue)
        crowded = waiting >= 2 * self.threads and waiting * flow.seconds_per_item >= LONG_SECONDS
        # Shared out, so that no thread takes everything and leaves the next one with nothing.
        limit = min(flow.max_batch, math.ceil(waiting / self.threads)) if crowded else flow.max_batch
        others = [other for other in self._flows if other is not flow]
        if not any(batch.all_cores for batch in flow.running) and not any(other.running for other in others):
            return limit, not crowded and not any(len(other.queue) for other in others)
        # Beside a batch of the same model on all cores, another one pays only if many items wait.
        may_start = crowded or not any(batch.all_cores for batch in flow.running)
        return (limit if may_start else 0), False

    def _may_run_here(self, flow: Flow) -> bool:
        """Whether a single short item waits for an idle CPU, from the only client."""
        return (
            len(flow.queue) == 1
            and flow.run_on_one_core is not None
            and 0 < flow.seconds_per_item < _SHORT_SECONDS
            and self._one_client()
            and not any(other.running or (other is not flow and len(other.queue)) for other in self._flows)
        )


def attempt(run: Run, items: Sequence[Any]) -> list[Any]:
    """One result for each item, an exception for one that failed.

    A batch that fails is halved until the faulty item is alone, so only that item fails.
    """
    try:
        results = list(run(items))
        if len(results) != len(items):
            raise RuntimeError(f"the model gave {len(results)} results for {len(items)} items")
        return results
    except Exception as error:  # whatever a model raises must not end the thread
        failure = error
    if len(items) == 1:
        # A traceback for each would let clients fill the log.
        logger.error("an item failed: %s", without_folders(str(failure)).partition("\n")[0])
        logger.debug("an item failed", exc_info=failure)
        return [failure]
    half = len(items) // 2
    return attempt(run, items[:half]) + attempt(run, items[half:])
