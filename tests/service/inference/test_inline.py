"""Batches on the event loop itself: the same guarantees as on threads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from service.errors import DeadlineExceeded, Draining, InferenceFailed, Overloaded
from service.inference.batcher import Batcher
from tests.gated import PATIENCE, Recorder, enqueue, submit


class Model:
    """Ten times each item; -1 makes it fail."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: list[int]) -> Sequence[Any]:
        self.batches.append(list(items))
        if -1 in items:
            raise RuntimeError("unlucky")
        return [item * 10 for item in items]


@pytest.fixture
async def inline() -> AsyncIterator[tuple[Batcher, Model, Recorder]]:
    model, recorder = Model(), Recorder()
    batcher = Batcher(model, max_batch=4, max_queue=30, observers=recorder, scheduler=None)
    yield batcher, model, recorder
    async with asyncio.timeout(PATIENCE):
        await batcher.close()


Parts = tuple[Batcher, Model, Recorder]


async def test_items_submitted_together_share_a_batch(inline: Parts):
    batcher, model, recorder = inline
    answers = await asyncio.gather(*(submit(batcher, [item, item + 100]) for item in range(5)))
    assert [rows for rows, _ in answers] == [[item * 10, item * 10 + 1000] for item in range(5)]
    assert [len(batch) for batch in model.batches] == [4, 4, 2]
    assert [size for size, _, _ in recorder.batches] == [4, 4, 2]


async def test_between_batches_the_loop_does_what_else_is_ready(inline: Parts):
    batcher, model, _ = inline
    seen: list[int] = []

    def look() -> None:
        seen.append(len(model.batches))
        if len(seen) < 4:
            asyncio.get_running_loop().call_soon(look)

    submission = enqueue(batcher, list(range(12)))
    asyncio.get_running_loop().call_soon(look)
    await submission.future
    assert seen[:3] == [1, 2, 3]


async def test_an_item_that_fails_fails_alone(inline: Parts):
    batcher, _, _ = inline
    good, bad = enqueue(batcher, [1, 2]), enqueue(batcher, [3, -1])
    assert await good.future == [10, 20]
    with pytest.raises(InferenceFailed, match="unlucky") as failure:
        await bad.future
    assert failure.value.index == 1


async def test_cancelled_or_expired_items_are_not_run(inline: Parts):
    batcher, model, recorder = inline
    gone, late = enqueue(batcher, [1]), enqueue(batcher, [2])
    gone.future.cancel()
    late.fail(DeadlineExceeded("late"))
    assert await enqueue(batcher, [3]).future == [30]
    assert model.batches == [[3]]
    batcher._sweep()  # as it runs many times a second
    assert recorder.drops == {"abandoned": 2}
    assert isinstance(late.future.exception(), DeadlineExceeded)


async def test_a_full_queue_refuses(inline: Parts):
    batcher, _, _ = inline
    submission, other = enqueue(batcher, list(range(10))), enqueue(batcher, list(range(9)))
    with pytest.raises(Overloaded, match="at most 30 may"):
        enqueue(batcher, list(range(13)))
    assert await other.future == [item * 10 for item in range(9)]
    assert await submission.future == [item * 10 for item in range(10)]


async def test_closing_answers_what_was_accepted_and_refuses_more(inline: Parts):
    batcher, _, _ = inline
    submission = enqueue(batcher, list(range(15)))
    await batcher.close()
    assert await submission.future == [item * 10 for item in range(15)]
    with pytest.raises(Draining):
        enqueue(batcher, [1])
