"""The pipeline: order, batches in flight, waiting for room in the queue, moving deadlines, cancellation."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import Abandoned, DeadlineExceeded, InferenceFailed, Overloaded
from service.inference.batcher import Batcher
from service.inference.pipeline import infer, infer_all
from service.inference.scheduler import Scheduler
from service.inference.scope import CallScope
from tests.gated import PATIENCE, Gated, Recorder, enqueue


@pytest.fixture
async def model() -> AsyncIterator[Gated]:
    gated = Gated()
    yield gated
    gated.release(10_000)


@pytest.fixture
async def version(model: Gated) -> AsyncIterator[Any]:
    scheduler = Scheduler(1)
    batcher = Batcher(model, max_batch=4, max_queue=24, observers=Recorder(), scheduler=scheduler)
    yield SimpleNamespace(batcher=batcher)
    model.release(10_000)
    async with asyncio.timeout(PATIENCE):
        await batcher.close()
        await scheduler.close()


class Made:
    """Makes items from their indices, and records which were requested."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    async def __call__(self, start: int, end: int) -> Sequence[int]:
        self.asked.append((start, end))
        return list(range(start, end))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
async def test_results_come_in_order_in_whole_batches(version: Any, model: Gated, count: int):
    model.release(100)
    made = Made()
    assert await infer_all(version.batcher, count, made, CallScope(), None) == [index * 10 for index in range(count)]
    assert made.asked == [(start, min(start + 4, count)) for start in range(0, count, 4)]


async def test_two_batches_are_in_flight_and_the_next_is_made_when_one_has_been_taken(version: Any, model: Gated):
    made = Made()
    async with aclosing(infer(version.batcher, 40, made, CallScope(), None)) as parts:
        first = asyncio.ensure_future(anext(parts))
        await model.entered()
        assert len(made.asked) == 2
        model.release()
        assert await first == [0, 10, 20, 30]
        assert len(made.asked) == 2  # no more were requested
        second = asyncio.ensure_future(anext(parts))
        await model.entered()
        assert len(made.asked) == 3
        model.release()
        assert await second == [40, 50, 60, 70]


async def test_a_full_queue_refuses_a_call_before_anything_is_made(version: Any, model: Gated):
    enqueue(version.batcher, [0])
    await model.entered()
    enqueue(version.batcher, list(range(16)))
    made = Made()
    for count in (1, 100):
        with pytest.raises(Overloaded):
            await infer_all(version.batcher, count, made, CallScope(), None)
    assert made.asked == []


async def test_a_call_holds_no_more_room_than_it_uses(version: Any, model: Gated):
    call, admission = CallScope(), version.batcher.admission
    model.release(100)
    async with aclosing(infer(version.batcher, 20, Made(), call, None)) as parts:
        held = [admission.held async for _ in parts]
    # Two batches, or 16 items, are in flight at most; what has been answered is released.
    assert held == [16, 12, 8, 4, 0]
    assert version.batcher.flow.queue.owners == 0


async def test_a_call_that_fails_releases_its_room(version: Any, model: Gated):
    async def fail(start: int, end: int) -> Sequence[int]:
        raise InferenceFailed("no items")

    for count in (1, 20):
        with pytest.raises(InferenceFailed):
            await infer_all(version.batcher, count, fail, CallScope(), None)
    assert version.batcher.admission.held == 0


async def test_a_call_that_makes_progress_outlasts_its_timeout(version: Any, model: Gated):
    call = CallScope(timeout=0.3)
    answer = asyncio.ensure_future(infer_all(version.batcher, 24, Made(), call, None))
    for _ in range(6):
        await model.entered()
        await asyncio.sleep(0.1)
        model.release()
    assert len(await answer) == 24  # after 0.6 s and more


async def test_a_call_without_progress_ends_at_its_deadline(version: Any, model: Gated):
    answer = asyncio.ensure_future(infer_all(version.batcher, 24, Made(), CallScope(timeout=0.2), None))
    await model.entered()
    model.release()
    await model.entered()
    with pytest.raises(DeadlineExceeded):
        await answer


async def test_the_time_spent_by_the_consumer_does_not_count(version: Any, model: Gated):
    model.release(100)
    async with aclosing(infer(version.batcher, 24, Made(), CallScope(timeout=0.1), None)) as parts:
        taken = []
        async for part in parts:
            taken += part
            await asyncio.sleep(0.15)
    assert len(taken) == 24


async def test_the_index_of_an_item_that_fails(version: Any, model: Gated):
    def fails(items: list[int]) -> list[int]:
        if 9 in items:
            raise RuntimeError("unlucky")
        return items

    version.batcher.flow.run = fails
    with pytest.raises(InferenceFailed) as failure:
        await infer_all(version.batcher, 20, Made(), CallScope(), None)
    assert failure.value.index == 9


async def test_a_cancelled_call_ends_soon_and_nothing_more_of_it_runs(version: Any, model: Gated):
    call = CallScope()
    answer = asyncio.ensure_future(infer_all(version.batcher, 40, Made(), call, None))
    await model.entered()
    call.cancel()
    with pytest.raises(Abandoned):
        async with asyncio.timeout(1):
            await answer
    model.release(100)
    await asyncio.sleep(0.1)
    assert len(model.batches) == 1
    assert version.batcher.depth == 0


async def test_closing_the_results_cancels_batches_in_flight(version: Any, model: Gated):
    model.release()
    async with aclosing(infer(version.batcher, 40, Made(), CallScope(), None)) as parts:
        assert await anext(parts) == [0, 10, 20, 30]
        await model.entered()
        await model.entered()  # the second batch has begun
    model.release(100)
    await asyncio.sleep(0.1)
    # Only the batch that had already begun.
    assert len(model.batches) == 2
    assert version.batcher.depth == 0


async def test_a_task_that_is_cancelled_leaves_nothing_behind(version: Any, model: Gated):
    complaints: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    answer = asyncio.ensure_future(infer_all(version.batcher, 40, Made(), CallScope(), None))
    await model.entered()
    answer.cancel()
    await asyncio.wait([answer])
    assert answer.cancelled()
    model.release(100)
    await asyncio.sleep(0.1)
    assert len(model.batches) == 1
    assert version.batcher.depth == 0
    assert complaints == []
