"""Batches on the event loop itself: the same guarantees as on threads."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from service.errors import DeadlineExceeded, Draining, InferenceFailed, Overloaded
from service.inference.batcher import Batcher
from service.inference.context import Context
from tests.gated import PATIENCE, Recorder, submit


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
    batcher = Batcher(model, max_batch=4, max_queue=20, observer=recorder, scheduler=None)
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

    submission = batcher.submit(list(range(12)), Context())
    asyncio.get_running_loop().call_soon(look)
    await submission.future
    assert seen[:3] == [1, 2, 3]


async def test_an_item_that_fails_fails_alone(inline: Parts):
    batcher, _, _ = inline
    good, bad = batcher.submit([1, 2], Context()), batcher.submit([3, -1], Context())
    assert await good.future == [10, 20]
    with pytest.raises(InferenceFailed, match="unlucky") as failure:
        await bad.future
    assert failure.value.index == 1


async def test_cancelled_or_expired_items_are_not_run(inline: Parts):
    batcher, model, recorder = inline
    gone, late = batcher.submit([1], Context()), batcher.submit([2], Context())
    gone.future.cancel()
    late.expired = True
    late.fail(DeadlineExceeded("late"))
    assert await batcher.submit([3], Context()).future == [30]
    assert model.batches == [[3]]
    assert recorder.drops == {"abandoned": 1, "expired": 1}
    assert isinstance(late.future.exception(), DeadlineExceeded)


async def test_a_full_queue_refuses(inline: Parts):
    batcher, _, _ = inline
    submission = batcher.submit(list(range(20)), Context())
    with pytest.raises(Overloaded):
        batcher.submit([1], Context())
    assert await submission.future == [item * 10 for item in range(20)]


async def test_closing_answers_what_was_accepted_and_refuses_more(inline: Parts):
    batcher, _, _ = inline
    submission = batcher.submit(list(range(15)), Context())
    await batcher.close()
    assert await submission.future == [item * 10 for item in range(15)]
    with pytest.raises(Draining):
        batcher.submit([1], Context())
