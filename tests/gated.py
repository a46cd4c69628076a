"""A model and an observer that a test controls."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from service.inference.batcher import Batcher
from service.inference.context import Context
from service.inference.queue import DropReason, Queue, Submission
from service.inference.scheduler import Scheduler

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


async def submit(
    batcher: Batcher, items: Sequence[Any], context: Context | None = None, **options: Any
) -> tuple[list[Any], Context]:
    """The results of items, and the context with the times they took."""
    context = context or Context(**options)
    submission = batcher.submit(items, context)
    return await submission.future, context


def rerun(batcher: Batcher, run: Callable[[list[Any]], Sequence[Any]]) -> None:
    """Puts `run`, on a thread of its own, behind an idle batcher instead of its model."""
    if batcher._scheduler:
        batcher._scheduler.remove(batcher.flow)
    batcher._scheduler = scheduler = Scheduler(1, name="rerun")
    batcher.flow.queue = Queue(batcher.max_batch, scheduler.lock)
    batcher.flow.run, batcher.flow.run_on_one_core = run, None
    scheduler.add(batcher.flow)


class Recorder:
    """An observer that records its calls."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[float], float]] = []
        self.drops: dict[str, int] = {}
        self.dropped_any = asyncio.Event()
        self.preparations: list[float] = []

    def prepared(self, seconds: float) -> None:
        self.preparations.append(seconds)

    def batch(self, size: int, queued: Sequence[float], seconds: float) -> None:
        self.batches.append((size, list(queued), seconds))

    def dropped(self, reason: DropReason, count: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count
        self.dropped_any.set()


@asynccontextmanager
async def batcher_of(
    run: Callable[[list[Any]], Sequence[Any]], max_batch: int = 4, max_queue: int = 1000
) -> AsyncIterator[tuple[Batcher, Recorder]]:
    """A batcher on a thread of its own, and what it reports."""
    recorder, scheduler = Recorder(), Scheduler(1)
    batcher = Batcher(run, max_batch=max_batch, max_queue=max_queue, observer=recorder, scheduler=scheduler)
    try:
        yield batcher, recorder
    finally:
        if isinstance(run, Gated):
            run.release(10_000)
        async with asyncio.timeout(PATIENCE):
            await batcher.close()
            await scheduler.close()


def enqueue(batcher: Batcher, items: Sequence[Any], **options: Any) -> Submission:
    """Queues all items of a new call."""
    context = Context(**options)
    context.single = len(items) == 1
    return batcher.submit(items, context)
