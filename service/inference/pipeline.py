"""The one way in: items of every caller go through a model here, whether it answers at once or streams."""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from service.errors import Abandoned, InferenceFailed
from service.inference.batcher import Batcher
from service.inference.call import QueuedCall
from service.inference.queue import Submission

# Makes the items from one index up to another; called in order, once for each batch.
Make = Callable[[int, int], Awaitable[Sequence[Any]]]
# Receives items and their results.
Record = Callable[[Sequence[Any], Sequence[Any]], None] | None


async def infer(
    batcher: Batcher, count: int, make: Make, call: QueuedCall, record: Record
) -> AsyncGenerator[list[Any], None]:
    """Runs items through a model, a batch's worth at a time.

    The next batch is made while the last one runs, and no more are in flight than keep the device busy. When the
    generator is closed, what is in flight is given up.

    Args:
        batcher: of the model.
        count: how many items there are, at least one.
        make: makes them.
        call: whose items they are.
        record: receives the items and results of each batch; None if nobody asks for them.

    Yields:
        The results of the next items, in order; see `CallScope.infer`, also for errors.
    """
    room = batcher.admission.admit(count, call)
    pending: deque[tuple[int, Sequence[Any], Submission]] = deque()
    start = 0
    try:
        while start < count or pending:
            if start < count and len(pending) < batcher.in_flight:
                items = await make(start, min(start + batcher.max_batch, count))
                call.check()
                pending.append((start, items, batcher.submit(items, room)))
                start += len(items)
                continue
            first, items, submission = pending[0]
            try:
                results = await submission.future
            except InferenceFailed as error:
                error.index = first + (error.index or 0)
                raise
            pending.popleft()
            room.shrink(count - first - len(items))
            if record:
                record(items, results)
            call.progressed()
            yield results
            call.progressed()  # the time that the consumer took does not count
    finally:
        for _, _, submission in pending:
            submission.fail(Abandoned())
        room.release()


async def infer_all(batcher: Batcher, count: int, make: Make, call: QueuedCall, record: Record) -> list[Any]:
    """The results of all items, in order; see `infer`."""
    if count <= batcher.max_batch:
        # Nearly every call is of one batch, and an asynchronous generator costs more than the rest of this function.
        room = batcher.admission.admit(count, call)
        submission = None
        try:
            items = await make(0, count)
            submission = batcher.submit(items, room)
            results = await submission.future
        finally:
            if submission is not None:
                submission.fail(Abandoned())
            room.release()
        if record:
            record(items, results)
        return results
    async with aclosing(infer(batcher, count, make, call, record)) as parts:
        return [result async for part in parts for result in part]
