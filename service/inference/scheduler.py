"""Which batch runs next, and on which thread: the models of a device share its cores.

A scheduler has as many threads as there are cores, and each of them takes a batch, runs it and takes the next. There
is no timer: an idle device takes a lone item at once, and on a busy one more items gather while batches run.

Between models the one that has used the device least goes first (start-time fair queuing; Goyal, Vin and Cheng 1997),
so a busy model gets what the others leave, and never keeps them from their share.

For one model a CPU has two ways to run a batch. On all cores it is answered soonest, so this is how a lone item runs.
When many items wait, each thread runs a batch of its own on a single core: no core then waits for another at the end
of every layer, and together they get more done.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.inference.device import DeviceLost, end_process
from service.inference.queue import DropReason, Entry, Queue

logger = logging.getLogger(__name__)

# Batches run in parallel only if the backlog exceeds this; below, handing over costs more than it gains.
LONG_SECONDS = 0.005
# A batch that was held up (by another process, say) counts as so many times as long as usual; taken for what it was, a
# single one would have the requests after it refused for a wait that is not there.
_MOST_TIMES = 4.0
# An item that costs less may run on the event loop, while that holds up nobody.
_SHORT_SECONDS = 0.005
# Batches that a GPU works on at a time: one is copied while the other is computed.
GPU_BATCHES = 2

# Takes a list of items and returns as many results.
Run = Callable[[list[Any]], Sequence[Any]]


@dataclass(slots=True, eq=False)
class Batch:
    """Entries that run together, and what came of them.

    Attributes:
        entries: what was taken from the queue.
        results: one for each entry; an exception stands for the result of an item that failed.
        started: on the monotonic clock; 0 before.
        seconds: that it took.
    """

    entries: list[Entry]
    results: list[Any] = field(default_factory=list)
    started: float = 0.0
    seconds: float = 0.0

    def run(self, run: Run) -> None:
        """Fills in the results."""
        self.started = time.monotonic()
        self.results = attempt(run, [entry[5] for entry in self.entries])
        self.seconds = time.monotonic() - self.started


@dataclass(slots=True, eq=False)
class Flow:
    """A model's queue and its usage of the device.

    Attributes:
        queue: the items that wait; it is guarded by the scheduler's lock.
        max_batch: the most items in a batch.
        run: runs a batch on the whole device.
        run_on_one_core: runs one on a single core of a CPU, beside others; None where batches of this model cannot
            run side by side.
        deliver: takes a batch that has run; called on the event loop.
        dropped: takes the numbers of items that left the queue without being run; called on the event loop.
        seconds_per_item: what an item costs when the whole device works for this model, over about the last ten
            batches.
        in_flight: items that are running now.
        used: core-seconds of the device that it has had, as fair queuing counts them.
    """

    queue: Queue
    max_batch: int
    run: Run
    run_on_one_core: Run | None
    deliver: Callable[[Batch], None]
    dropped: Callable[[Mapping[DropReason, int]], None]
    seconds_per_item: float = 0.0
    in_flight: int = 0
    used: float = 0.0

    @property
    def seconds_of_work(self) -> float:
        """How long the whole device would be busy with what waits and runs."""
        return (len(self.queue) + self.in_flight) * self.seconds_per_item

    def learn(self, batch: Batch, side_by_side: int = 1) -> None:
        """Updates the estimate from a finished batch; `side_by_side` of them can run at a time."""
        seconds = batch.seconds / len(batch.entries) / side_by_side
        before = self.seconds_per_item
        self.seconds_per_item = before + (min(seconds, _MOST_TIMES * before) - before) * 0.1 if before else seconds


@dataclass(slots=True, eq=False)
class _Running:
    """A batch on a thread: whose it is, whether it has all cores, and what it was charged beforehand."""

    flow: Flow
    batch: Batch
    all_cores: bool
    charged: float


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
        self._running: list[_Running] = []
        # Threads that wait for work. The last one to go idle is woken first: its core still has the model in its cache.
        self._idle: list[threading.Condition] = []
        self._clock = 0.0  # virtual time: what the flow that was served last had used
        self._closed = False
        self._workers = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True) for index in range(threads)
        ]
        for worker in self._workers:
            worker.start()

    def add(self, flow: Flow) -> None:
        """Registers a model."""
        with self.lock:
            self._flows.append(flow)

    def remove(self, flow: Flow) -> None:
        """Unregisters a model; its pending items are never run."""
        with self.lock:
            self._flows.remove(flow)

    def wake(self, flow: Flow) -> None:
        """Says that items of a model wait; called on the event loop.

        A lone item of a lone client is run at once: handing it over to a thread, and its result back, would take longer
        than all else that the service does for it.
        """
        with self.lock:
            running = self._next() if self._may_run_here(flow) else None
            if running is None and self._may_start(flow)[0]:
                self._wake_thread()
        if running is not None:
            self._run(running)
            flow.deliver(running.batch)

    @property
    def models(self) -> int:
        """How many are registered."""
        return len(self._flows)

    def seconds_for_others(self, flow: Flow, seconds: float) -> float:
        """How long the device works for other models while it does `seconds` of work for `flow`.

        Each gets as much as this one at the most, and no more than it needs.
        """
        return sum(min(seconds, other.seconds_of_work) for other in self._flows if other is not flow)

    def running_seconds(self, flow: Flow) -> float:
        """How long the batch of a model that began first has been running; 0 if none is."""
        running = [running.batch.started for running in list(self._running) if running.flow is flow]
        begun: float = min(filter(None, running), default=0.0)
        return time.monotonic() - begun if begun else 0.0

    async def close(self, timeout: float | None = None) -> None:
        """Ends the threads, or leaves those whose model hangs after `timeout` seconds."""
        with self.lock:
            self._closed = True
            while self._idle:
                self._wake_thread()
        end = math.inf if timeout is None else time.monotonic() + timeout
        for worker in self._workers:
            await asyncio.to_thread(worker.join, None if timeout is None else max(0.0, end - time.monotonic()))
        if hanging := [worker.name for worker in self._workers if worker.is_alive()]:
            logger.error("%s did not end within %s s: a model hangs", ", ".join(hanging), timeout)

    def _work(self) -> None:
        try:
            self._run_batches()
        except DeviceLost as lost:
            end_process(lost)

    def _run_batches(self) -> None:
        work = threading.Condition(self.lock)
        while running := self._take(work):
            self._run(running)
            self._call_on_loop(running.flow.deliver, running.batch)
            # A thread that waits for its next batch must not keep a model alive that is served no longer.
            del running

    def _run(self, running: _Running) -> None:
        """Runs a batch that was taken, and settles what it was charged."""
        flow, batch = running.flow, running.batch
        batch.run(flow.run if running.all_cores else flow.run_on_one_core or flow.run)
        with self.lock:
            self._running.remove(running)
            flow.in_flight -= len(batch.entries)
            flow.used += batch.seconds * (self.threads if running.all_cores else 1) - running.charged
            flow.learn(batch, 1 if running.all_cores else self.threads)

    def _take(self, work: threading.Condition) -> _Running | None:
        """The next batch, once one may start; None when the scheduler is closed.

        Args:
            work: this thread waits for it while there is nothing to do.
        """
        with self.lock:
            while not self._closed:
                if running := self._next():
                    if any(self._may_start(flow)[0] for flow in self._flows if len(flow.queue)):
                        self._wake_thread()
                    return running
                self._idle.append(work)
                work.wait()
        return None

    def _wake_thread(self) -> None:
        """Has an idle thread look for work, if there is one; called with the lock."""
        if self._idle:
            self._idle.pop().notify()

    def _next(self) -> _Running | None:
        """The batch that should start now: one of the model that has used the device least."""
        waiting = [flow for flow in self._flows if len(flow.queue)]
        for flow in sorted(waiting, key=lambda flow: flow.used) if len(waiting) > 1 else waiting:
            limit, all_cores = self._may_start(flow)
            entries, dropped = flow.queue.pop(limit)
            if dropped:
                self._call_on_loop(flow.dropped, dropped)
            if entries:
                # An idle model earns no credit.
                self._clock = flow.used = max(flow.used, self._clock)
                # Charged at once, so that the next thread does not take this model for the least served again.
                running = _Running(flow, Batch(entries), all_cores, len(entries) * flow.seconds_per_item * self.threads)
                flow.used += running.charged
                flow.in_flight += len(entries)
                self._running.append(running)
                return running
        return None

    def _may_start(self, flow: Flow) -> tuple[int, bool]:
        """How many items a batch of a model may have that starts now (0: none may), and whether it gets all cores."""
        own = [running for running in self._running if running.flow is flow]
        if flow.run_on_one_core is None:
            return (0 if own else flow.max_batch), True
        waiting = len(flow.queue)
        crowded = waiting >= 2 * self.threads and waiting * flow.seconds_per_item >= LONG_SECONDS
        # What waits is shared out, so that no thread takes all and leaves the next one with nothing.
        limit = min(flow.max_batch, math.ceil(waiting / self.threads)) if crowded else flow.max_batch
        if all(running.flow is flow and not running.all_cores for running in self._running):
            alone = not any(len(other.queue) for other in self._flows if other is not flow)
            return limit, alone and not crowded
        # Beside its own batch on all cores, another one pays only if many items wait.
        may_start = crowded or not any(running.all_cores for running in own)
        return (limit if may_start else 0), False

    def _may_run_here(self, flow: Flow) -> bool:
        """Whether what waits is a single short item for an idle CPU, and its client the only one."""
        return (
            len(flow.queue) == 1
            and flow.run_on_one_core is not None
            and 0 < flow.seconds_per_item < _SHORT_SECONDS
            and not self._running
            and self._one_client()
            and not any(len(other.queue) for other in self._flows if other is not flow)
        )

    def _call_on_loop(self, callback: Callable[..., None], argument: Any) -> None:
        """Calls back on the event loop, which may have ended while a model was hanging."""
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:
            logger.warning("the event loop ended before a batch was answered")


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
