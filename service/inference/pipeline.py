"""The one way in: items of every caller go through a model here, whether it answers at once or streams."""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from service.errors import Abandoned, InferenceFailed

if TYPE_CHECKING:
    from service.inference.queue import Submission
    from service.inference.repository import Version
    from service.inference.scope import CallScope

# Makes the items from one index up to another; called in order, once for each batch.
Make = Callable[[int, int], Awaitable[Sequence[Any]]]


async def infer(version: "Version", count: int, make: Make, call: "CallScope") -> AsyncGenerator[list[Any], None]:
    """Runs items through a model, a batch's worth at a time.

    The next batch is made while the last one runs, and no more are in flight than keep the device busy. When the
    generator is closed, what is in flight is given up.

    Args:
        version: leased by the call.
        count: how many items there are, at least one.
        make: makes them.
        call: whose items they are.

    Yields:
        The results of the next items, in order: for each a tuple with its row of every output of the graph.

    Raises:
        Overloaded: there is no room for the call, or it could not be answered in time.
        DeadlineExceeded: the call went without progress for too long.
        Abandoned: the call was cancelled.
        InferenceFailed: the model failed on an item; `index` says which.
        Draining: the server is shutting down.
    """
    batcher = version.batcher
    reservation = batcher.admission.admit(count, call)
    pending: deque[tuple[int, Sequence[Any], Submission]] = deque()
    start = 0
    try:
        while start < count or pending:
            if start < count and len(pending) < batcher.in_flight:
                items = await make(start, min(start + batcher.max_batch, count))
                call.check()
                pending.append((start, items, batcher.submit(items, reservation)))
                start += len(items)
                continue
            first, items, submission = pending[0]
            try:
                results = await submission.future
            except InferenceFailed as error:
                error.index = first + (error.index or 0)
                raise
            pending.popleft()
            reservation.shrink(count - first - len(items))
            call.record(items, results)
            call.progressed()
            yield results
            call.progressed()  # the time that the consumer took does not count
    finally:
        for _, _, submission in pending:
            submission.fail(Abandoned())
        reservation.release()


async def infer_all(version: "Version", count: int, make: Make, call: "CallScope") -> list[Any]:
    """The results of all items, in order; see `infer`."""
    batcher = version.batcher
    if count <= batcher.max_batch:
        # Nearly every call is of one batch, and an asynchronous generator costs more than the rest of this function.
        reservation = batcher.admission.admit(count, call)
        submission = None
        try:
            items = await make(0, count)
            submission = batcher.submit(items, reservation)
            results = await submission.future
        finally:
            if submission is not None:
                submission.fail(Abandoned())
            reservation.release()
        call.record(items, results)
        return results
    async with aclosing(infer(version, count, make, call)) as parts:
        return [result async for part in parts for result in part]
