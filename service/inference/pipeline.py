"""The one way in: every caller's items go through a model here, whether it answers at once or streams."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from service.errors import Abandoned, InferenceFailed, Overloaded
from service.inference.context import Context
from service.inference.queue import Submission
from service.inference.repository import Version

# The items from one index up to another; called in order, once for each batch.
Make = Callable[[int, int], Awaitable[Sequence[Any]]]


async def infer(version: Version, count: int, make: Make, context: Context) -> AsyncGenerator[list[Any], None]:
    """Carries items through a model, a batch's worth at a time.

    The next batch is made while the last one runs, and no more are in flight than keep the device busy. A call whose
    first batch finds the queue full is refused, at no loss; one that has begun waits for room. What is in flight when
    the generator is closed is given up.

    Args:
        version: of the model; the caller holds a lease on it.
        count: how many items there are, at least one.
        make: makes them.
        context: of the call.

    Yields:
        The results of the next items, in order: for each a tuple with its row of every output of the graph.

    Raises:
        Overloaded: there is no room for the first items, or there was none for later ones until the deadline.
        DeadlineExceeded: the call went without progress for too long.
        Abandoned: the call was cancelled.
        InferenceFailed: the model failed on an item; `index` tells which.
        Draining: the server is shutting down.
    """
    batcher = version.batcher
    size = batcher.max_batch
    batcher.admission.admit(count, context)
    pending: deque[tuple[int, Submission]] = deque()
    items: Sequence[Any] | None = None
    start = 0
    try:
        while start < count or pending:
            if start < count and len(pending) < batcher.in_flight:
                if items is None:
                    items = await make(start, min(start + size, count))
                try:
                    submission = batcher.submit(items, context)
                except Overloaded as refusal:
                    if start == 0:
                        raise
                    if not pending:
                        await _backoff(refusal, context)
                        continue
                else:
                    pending.append((start, submission))
                    start, items = start + len(items), None
                    continue
            yield await _next(pending, context)
            # Time that the consumer spent is not counted.
            context.progressed()
    finally:
        batcher.admission.release(context)
        for _, submission in pending:
            submission.abandon()


async def infer_all(version: Version, count: int, make: Make, context: Context) -> list[Any]:
    """The results of all items, in order; see `infer`."""
    batcher = version.batcher
    if count <= batcher.max_batch:
        # Nearly every call is of one batch, and an asynchronous generator costs more than the rest of this function.
        batcher.admission.admit(count, context)
        submission = None
        try:
            submission = batcher.submit(await make(0, count), context)
            return await submission.future
        finally:
            if submission is None:
                batcher.admission.release(context)
            else:
                submission.abandon()
    async with aclosing(infer(version, count, make, context)) as parts:
        return [result async for part in parts for result in part]


async def _next(pending: deque[tuple[int, Submission]], context: Context) -> list[Any]:
    """The results of the batch's worth that has waited longest."""
    start, submission = pending[0]
    try:
        results = await submission.future
    except InferenceFailed as error:
        error.index = start + (error.index or 0)
        raise
    pending.popleft()
    context.progressed()
    return results


async def _backoff(refusal: Overloaded, context: Context) -> None:
    """Waits before the queue is asked for room once more.

    Raises:
        Abandoned: the call was cancelled.
        Overloaded: `refusal`, once the deadline has passed.
    """
    context.slow()
    if context.cancelled:
        raise Abandoned
    left = context.deadline - time.monotonic()
    if left <= 0:
        raise refusal
    await asyncio.sleep(min(left, 1.0, max(0.01, refusal.retry_after or 0.0)))
