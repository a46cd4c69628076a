"""The queue under a batcher: which items share a batch, whose turn it is, priority."""

import asyncio

from service.inference.context import Context
from tests.gated import Gated, batcher_of, enqueue


async def test_a_batch_gathers_while_another_runs():
    model = Gated()
    async with batcher_of(model, max_batch=4) as (batcher, recorder):
        first = enqueue(batcher, [0])
        await model.entered()
        later = [enqueue(batcher, [item]) for item in range(1, 7)]
        assert batcher.depth == 6
        model.release(3)
        answers = await asyncio.gather(first.future, *(submission.future for submission in later))
        assert model.batches == [[0], [1, 2, 3, 4], [5, 6]]
        assert answers == [[item * 10] for item in range(7)]
        assert [size for size, _, _ in recorder.batches] == [1, 4, 2]
        assert all(len(queued) == size and min(queued) >= 0 for size, queued, _ in recorder.batches)


async def test_a_large_call_does_not_hold_up_a_single_item_that_comes_later():
    model = Gated()
    async with batcher_of(model, max_batch=8) as (batcher, _):
        large = enqueue(batcher, [1] * 32)
        await model.entered()  # a first batch, entirely of the large call
        small = enqueue(batcher, [2])
        model.release()
        await model.entered()
        assert 2 in model.batches[1]
        model.release()
        assert await small.future == [20]
        assert not large.future.done()
        model.release(3)
        assert await large.future == [10] * 32


async def test_a_large_call_shares_every_batch_with_another_large_one():
    model = Gated()
    async with batcher_of(model, max_batch=8) as (batcher, _):
        enqueue(batcher, [0])
        await model.entered()
        submissions = [enqueue(batcher, [caller] * 16) for caller in (1, 2)]
        model.release(5)
        await asyncio.gather(*(submission.future for submission in submissions))
        assert [sorted(batch) for batch in model.batches[1:]] == [[1, 1, 1, 1, 2, 2, 2, 2]] * 4


async def test_a_stream_of_later_calls_does_not_starve_a_large_one():
    model = Gated()
    async with batcher_of(model, max_batch=4) as (batcher, _):
        enqueue(batcher, [0])
        await model.entered()
        large = enqueue(batcher, [1] * 16)
        rounds = 0
        while model.seen.count(1) < 16:
            rounds += 1
            assert rounds <= 32
            for _ in range(4):  # as many as a batch holds: the stream alone could fill every batch
                enqueue(batcher, [2])
            model.release()
            await model.entered()
        model.release()
        assert await large.future == [10] * 16


async def test_priority_goes_first_and_equals_in_order_of_arrival():
    model = Gated()
    async with batcher_of(model, max_batch=2) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        submissions = [
            enqueue(batcher, [item], priority=priority)
            for item, priority in (("late", 5), ("first", 0), ("second", 0), ("urgent", -1), ("later", 5))
        ]
        model.release(4)
        await asyncio.gather(*(submission.future for submission in submissions))
        assert model.batches == [["plug"], ["urgent", "first"], ["late", "second"], ["later"]]


async def test_a_small_call_waits_for_no_more_than_the_batch_that_runs():
    model = Gated()
    async with batcher_of(model, max_batch=4) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        large = [enqueue(batcher, [caller] * 12) for caller in range(5)]
        small = enqueue(batcher, ["small"])
        last = enqueue(batcher, ["last"])
        model.release(100)
        await asyncio.gather(*(each.future for each in (*large, small, last)))
        position = next(i for i, batch in enumerate(model.batches) if "last" in batch)
        assert position == 1  # with the other one, in half of the next batch
        assert all(set(batch) - {"small", "last"} for batch in model.batches[1:])  # the large ones go on meanwhile


async def test_items_of_a_call_run_in_the_order_of_submission():
    model = Gated()
    async with batcher_of(model, max_batch=4) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        call = Context()
        parts = [batcher.submit([part] * 4, call) for part in ("first", "second")]
        other = enqueue(batcher, ["other"])
        model.release(4)
        await asyncio.gather(*(part.future for part in parts), other.future)
        assert model.batches[1:] == [
            ["other", "first", "first", "first"],
            ["first", "second", "second", "second"],
            ["second"],
        ]


async def test_low_priority_gets_a_third_of_each_batch_while_others_keep_the_model_busy():
    model = Gated()
    async with batcher_of(model, max_batch=6) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        background = enqueue(batcher, ["late"] * 16, priority=1)
        for _ in range(8):
            for _ in range(3):
                enqueue(batcher, ["large"] * 4)
            model.release()
            await model.entered()
        assert [batch.count("late") for batch in model.batches[1:9]] == [2] * 8
        model.release(100)
        assert await background.future == [late * 10 for late in ["late"] * 16]


async def test_batches_of_one_item_are_shared_with_low_priority_too():
    model = Gated()
    async with batcher_of(model, max_batch=1) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        enqueue(batcher, ["late"] * 2, priority=1)
        for _ in range(20):
            enqueue(batcher, ["soon"])
        model.release(12)
        for _ in range(12):
            await model.entered()
        assert [index for index, item in enumerate(model.seen) if item == "late"] == [3, 6]
        model.release(100)
