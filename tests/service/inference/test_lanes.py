"""The batcher's lanes: all cores for one batch while little waits, a core for each of several when much does."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.inference.batcher import Batcher
from tests.gated import PATIENCE, Gated, Recorder

Lanes = tuple[Batcher, Gated, Gated]


@pytest.fixture
async def lanes() -> AsyncIterator[Lanes]:
    wide, narrow = Gated(), Gated()
    batcher = Batcher(
        wide, max_batch=64, max_queue=1000, observer=Recorder(), name="lanes-under-test", lanes=2, run_narrow=narrow
    )
    batcher.runner.seconds_per_item = 0.01  # a model that is worth sharing out
    yield batcher, wide, narrow
    wide.release(1000)
    narrow.release(1000)
    async with asyncio.timeout(PATIENCE):
        await batcher.close()
    assert not [thread for thread in batcher.runner.threads if thread.is_alive()]


async def test_a_lone_item_gets_all_cores_and_a_second_one_waits_for_them(lanes: Lanes):
    batcher, wide, narrow = lanes
    first = batcher.enqueue([1])
    await wide.entered()
    second = batcher.enqueue([2])
    wide.release()
    assert await first.future == [10]
    await wide.entered()
    wide.release()
    assert await second.future == [20]
    assert (wide.batches, narrow.batches) == ([[1], [2]], [])


async def test_much_that_waits_is_shared_out_and_runs_side_by_side(lanes: Lanes):
    batcher, wide, narrow = lanes
    group = batcher.enqueue(list(range(8)))
    await narrow.entered()
    await narrow.entered()  # both at once: neither has been let through
    narrow.release()  # one alone: were both to end at once, what follows would get all cores
    await narrow.entered()
    narrow.release(2)
    assert await group.future == [item * 10 for item in range(8)]
    # Each takes half of what waits, so that the lane that ends first finds more.
    assert sorted(narrow.batches) == [[0, 1, 2, 3], [4, 5], [6, 7]]
    assert wide.batches == []


async def test_beside_a_batch_on_one_core_a_lone_item_need_not_wait(lanes: Lanes):
    batcher, wide, narrow = lanes
    group = batcher.enqueue(list(range(8)))
    await narrow.entered()
    await narrow.entered()
    narrow.release()  # one alone: were both to end at once, what follows would get all cores
    await narrow.entered()  # the last two of the eight
    lone = batcher.enqueue([100])
    narrow.release()
    await narrow.entered()
    narrow.release(2)
    assert await lone.future == [1000]
    await group.future
    assert wide.batches == []


async def test_much_that_comes_while_one_batch_has_all_cores_starts_beside_it(lanes: Lanes):
    batcher, wide, narrow = lanes
    first = batcher.enqueue([1])
    await wide.entered()
    crowd = batcher.enqueue(list(range(8)))
    await narrow.entered()
    assert narrow.batches == [[0, 1, 2, 3]]
    narrow.release(100)
    wide.release(100)
    assert await first.future == [10]
    assert await crowd.future == [item * 10 for item in range(8)]


async def test_what_is_over_in_no_time_is_not_shared_out(lanes: Lanes):
    batcher, wide, narrow = lanes
    batcher.runner.seconds_per_item = 1e-6
    group = batcher.enqueue(list(range(8)))
    await wide.entered()
    wide.release()
    assert await group.future == [item * 10 for item in range(8)]
    assert (len(wide.batches), narrow.batches) == (1, [])


async def test_closing_finishes_what_both_lanes_and_the_queue_hold(lanes: Lanes):
    batcher, wide, narrow = lanes
    groups = [batcher.enqueue([item] * 5) for item in range(8)]
    await narrow.entered()
    await narrow.entered()
    closing = asyncio.create_task(batcher.close())
    narrow.release(1000)
    wide.release(1000)
    async with asyncio.timeout(PATIENCE):
        await closing
    assert [await group.future for group in groups] == [[item * 10] * 5 for item in range(8)]


async def test_lanes_that_hang_share_one_deadline_when_they_are_closed(caplog: pytest.LogCaptureFixture):
    model = Gated()
    batcher = Batcher(model, max_batch=1, max_queue=10, observer=Recorder(), name="hanging", lanes=4, run_narrow=model)
    batcher.runner.seconds_per_item = 1.0
    batcher.enqueue([1])
    await model.entered()
    batcher.enqueue([2])
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await batcher.close(0.5)
    assert loop.time() - begun < 1.5  # not 0.5 s for each of the four
    assert "did not end within 0.5 s" in caplog.text
    model.release(10)
    await batcher.close(PATIENCE)
    assert not [thread for thread in batcher.runner.threads if thread.is_alive()]
