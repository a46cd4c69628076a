"""A model and an observer that a test controls."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from service.inference.batcher import Batcher
from service.inference.observers import BatchRan, ItemsDropped, Observers
from service.inference.queue import FairQueue, Submission
from service.inference.scheduler import Scheduler
from service.inference.scope import CallScope

PATIENCE = 30  # seconds until a waiting test fails


class Gated:
    """A model whose every batch blocks until the test releases it; the result for an item is ten times the item."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self._entered = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    def __call__(self, items: list[Any]) -> list[Any]:
        self.batches.append(list(items))
        self._entered.release()
        assert self._gate.acquire(timeout=PATIENCE)
        return [item * 10 for item in items]

    async def entered(self) -> None:
        """Waits until one more batch has reached the model."""
        assert await asyncio.to_thread(self._entered.acquire, timeout=PATIENCE)

    def release(self, batches: int = 1) -> None:
        """Lets this many batches through."""
        self._gate.release(batches)

    @property
    def seen(self) -> list[Any]:
        """Every item that reached the model, in order."""
        return [item for batch in self.batches for item in batch]


def enqueue(batcher: Batcher, items: Sequence[Any], call: CallScope | None = None, **options: Any) -> Submission:
    """Queues items of a new call, of an owner of its own unless the options name one."""
    call = call or CallScope(**{"owner": object(), **options})
    submission = batcher.submit(items, batcher.admission.admit(len(items), call))
    submission.future.add_done_callback(lambda _: call.close())
    return submission


async def submit(
    batcher: Batcher, items: Sequence[Any], call: CallScope | None = None, **options: Any
) -> tuple[list[Any], CallScope]:
    """The results of items, and the call with the times they took."""
    submission = enqueue(batcher, items, call, **options)
    return await submission.future, submission.call


def rerun(batcher: Batcher, run: Callable[[list[Any]], Sequence[Any]]) -> None:
    """Puts `run`, on a thread of its own, behind an idle batcher instead of its model."""
    if batcher._scheduler:
        batcher._scheduler.remove(batcher.flow)
    batcher._scheduler = scheduler = Scheduler(1, name="rerun")
    batcher.flow.queue = batcher.admission.queue = FairQueue(scheduler.lock)
    batcher.flow.run, batcher.flow.run_on_one_core = run, None
    scheduler.add(batcher.flow)


class Recorder(Observers):
    """Records events at once."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, list[float], float]] = []
        self.drops: dict[str, int] = {}
        self.dropped_any = asyncio.Event()

    def publish(self, event: Any) -> None:
        if isinstance(event, BatchRan):
            self.batches.append((len(event.queued), list(event.queued), event.seconds))
        elif isinstance(event, ItemsDropped):
            self.drops[event.reason] = self.drops.get(event.reason, 0) + event.count
            self.dropped_any.set()


@asynccontextmanager
async def batcher_of(
    run: Callable[[list[Any]], Sequence[Any]], max_batch: int = 4, max_queue: int = 1000
) -> AsyncIterator[tuple[Batcher, Recorder]]:
    """A batcher on a thread of its own, and what it reports."""
    recorder, scheduler = Recorder(), Scheduler(1)
    batcher = Batcher(run, max_batch=max_batch, max_queue=max_queue, observers=recorder, scheduler=scheduler)
    try:
        yield batcher, recorder
    finally:
        if isinstance(run, Gated):
            run.release(10_000)
        async with asyncio.timeout(PATIENCE):
            await batcher.close()
            await scheduler.close()
