"""Items that fail, models that fail at everything, hang, or answer nonsense."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.errors import InferenceFailed
from service.inference.batcher import Batcher
from service.inference.scheduler import Scheduler
from tests.gated import Gated, Recorder, batcher_of, enqueue, submit


def fails_on(bad: Any, error: Exception) -> Callable[[list[Any]], list[Any]]:
    def run(items: list[Any]) -> list[Any]:
        if bad in items:
            raise error
        return [item * 10 for item in items]

    return run


async def test_a_bad_item_fails_alone():
    gate = Gated()
    broken = fails_on(13, ValueError("unlucky"))
    calls: list[list[Any]] = []

    def run(items: list[Any]) -> list[Any]:
        if not gate.batches:
            return gate(items)
        calls.append(items)
        return broken(items)

    async with batcher_of(run, max_batch=16) as (batcher, _):
        enqueue(batcher, [0])
        await gate.entered()
        submissions = [enqueue(batcher, [item]) for item in range(8, 20)]
        gate.release()
        answers = await asyncio.gather(*(submission.future for submission in submissions), return_exceptions=True)
        assert calls[0] == list(range(8, 20))  # they were one batch
        for item, answer in zip(range(8, 20), answers, strict=True):
            if item == 13:
                assert isinstance(answer, InferenceFailed)
                assert answer.index == 0
                assert "unlucky" in answer.detail
                assert isinstance(answer.__cause__, ValueError)
            else:
                assert answer == [item * 10]


async def test_a_failure_names_the_index_of_the_item():
    async with batcher_of(fails_on(13, ValueError("unlucky"))) as (batcher, _):
        with pytest.raises(InferenceFailed) as failure:
            await submit(batcher, [1, 2, 3, 4, 5, 13, 6])
        assert failure.value.index == 5


@pytest.mark.parametrize("results", [[], [1, 2, 3]])
async def test_a_model_that_gives_the_wrong_number_of_results_fails(results):
    wrong = [True]

    def run(items: list[Any]) -> list[Any]:
        return results if wrong else [item * 10 for item in items]

    async with batcher_of(run) as (batcher, _):
        with pytest.raises(InferenceFailed, match=f"{len(results)} results for 1 item"):
            await submit(batcher, [1, 2])
        wrong.clear()
        assert (await submit(batcher, [1, 2]))[0] == [10, 20]


@pytest.mark.parametrize(
    "error",
    [ValueError("v"), MemoryError("m"), RecursionError("r"), StopIteration("s"), AssertionError(), OSError(5, "io")],
    ids=lambda error: type(error).__name__,
)
async def test_the_thread_survives_whatever_the_model_raises(error):
    async with batcher_of(fails_on(13, error)) as (batcher, _):
        for _ in range(3):
            with pytest.raises(InferenceFailed):
                await submit(batcher, [13])
            assert (await submit(batcher, [1, 2, 3]))[0] == [10, 20, 30]


async def test_a_model_that_hangs_or_only_fails_is_in_trouble_until_it_answers():
    model = Gated()
    async with batcher_of(model) as (batcher, _):
        assert batcher.trouble(0.0) is None
        answer = enqueue(batcher, [0])
        await model.entered()
        await asyncio.sleep(0.01)
        assert batcher.trouble(60.0) is None
        assert "has been running" in str(batcher.trouble(0.005))
        model.release(1)
        await answer.future
        assert batcher.trouble(0.0) is None

    async with batcher_of(lambda items: [1 // item for item in items]) as (batcher, _):
        for _ in range(10):
            assert batcher.trouble(60.0) is None
            with pytest.raises(InferenceFailed):
                await submit(batcher, [0])
        assert batcher.trouble(60.0) == "the last 10 batches failed whole"
        await submit(batcher, [1])
        assert batcher.trouble(60.0) is None


async def test_bad_items_alone_do_not_make_a_model_broken():
    broken = []

    def run(items: list[int]) -> list[int]:
        if broken or 0 in items:
            raise RuntimeError("no")
        return items

    scheduler = Scheduler(1)
    batcher = Batcher(run, max_batch=4, max_queue=10, observers=Recorder(), scheduler=scheduler, probe=7)
    for ends in (None, "the last 11 batches failed whole"):
        for _ in range(10):
            with pytest.raises(InferenceFailed):
                await submit(batcher, [0])
        await asyncio.sleep(0.1)  # until the probe has been answered
        assert batcher.trouble(60.0) == ends
        broken.append(True)
    broken.clear()
    await submit(batcher, [1])
    assert batcher.trouble(60.0) is None
    await batcher.close()
    await scheduler.close()
