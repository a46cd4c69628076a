"""The fair queue under a batcher: which items share a batch, and whose turn it is."""

import asyncio
import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.inference.call import BACKGROUND
from service.inference.queue import FairQueue, Submission
from service.inference.scope import CallScope
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


async def test_a_lone_item_does_not_wait_behind_large_calls():
    model = Gated()
    async with batcher_of(model, max_batch=4) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        large = [enqueue(batcher, [caller] * 12) for caller in range(5)]
        model.release()
        await model.entered()
        small = enqueue(batcher, ["small"])
        model.release(100)
        await asyncio.gather(*(each.future for each in (*large, small)))
        assert "small" in model.batches[2] + model.batches[3]


async def test_large_calls_of_two_owners_share_every_batch():
    model = Gated()
    async with batcher_of(model, max_batch=8) as (batcher, _):
        enqueue(batcher, [0])
        await model.entered()
        submissions = [enqueue(batcher, [caller] * 16) for caller in (1, 2)]
        model.release(5)
        await asyncio.gather(*(submission.future for submission in submissions))
        assert [len(batch) for batch in model.batches[1:]] == [8] * 4
        assert all(3 <= batch.count(1) <= 5 for batch in model.batches[1:])


async def test_many_calls_of_one_owner_get_no_more_than_one_call_of_another():
    model = Gated()
    async with batcher_of(model, max_batch=8) as (batcher, _):
        enqueue(batcher, [0])
        await model.entered()
        submissions = [enqueue(batcher, [1] * 4, owner="many") for _ in range(4)] + [enqueue(batcher, [2] * 16)]
        model.release(5)
        await asyncio.gather(*(submission.future for submission in submissions))
        assert [len(batch) for batch in model.batches[1:]] == [8] * 4
        assert all(3 <= batch.count(1) <= 5 for batch in model.batches[1:])


async def test_a_stream_of_new_owners_does_not_starve_a_large_call():
    model = Gated()
    async with batcher_of(model, max_batch=4) as (batcher, _):
        enqueue(batcher, [0])
        await model.entered()
        large = enqueue(batcher, [1] * 16)
        batches = 0
        while model.seen.count(1) < 16:
            batches += 1
            assert batches <= 40
            for _ in range(4):  # as many as a batch holds: the stream alone could fill every batch
                enqueue(batcher, [2])
            model.release()
            await model.entered()
        model.release()
        assert await large.future == [10] * 16


async def test_items_of_an_owner_run_in_the_order_in_which_they_came():
    model = Gated()
    async with batcher_of(model, max_batch=4) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        parts = [enqueue(batcher, [part] * 4, owner="one") for part in ("first", "second")]
        other = enqueue(batcher, ["other"])
        model.release(4)
        await asyncio.gather(*(part.future for part in parts), other.future)
        assert [item for item in model.seen if item != "other"] == ["plug"] + ["first"] * 4 + ["second"] * 4
        assert "other" in model.batches[1]


async def test_an_owner_gets_turns_by_its_weight():
    model = Gated()
    async with batcher_of(model, max_batch=8) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        heavy, light = enqueue(batcher, ["heavy"] * 24, weight=3.0), enqueue(batcher, ["light"] * 24)
        model.release(4)
        for _ in range(4):
            await model.entered()
        assert Counter(item for batch in model.batches[1:5] for item in batch) == {"heavy": 24, "light": 8}
        model.release(10)
        await asyncio.gather(heavy.future, light.future)


async def test_background_work_gets_half_as_much_as_all_others_together():
    model = Gated()
    async with batcher_of(model, max_batch=6) as (batcher, _):
        enqueue(batcher, ["plug"])
        await model.entered()
        background = [enqueue(batcher, ["late"] * 8, owner=BACKGROUND) for _ in range(3)]
        others = [enqueue(batcher, ["soon"] * 24) for _ in range(4)]
        model.release(8)
        for _ in range(8):
            await model.entered()
        counts = Counter(item for batch in model.batches[1:8] for item in batch)
        assert counts["soon"] == pytest.approx(2 * counts["late"], abs=6)
        model.release(100)
        await asyncio.gather(*(each.future for each in (*background, *others)))


def calls() -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 20)), min_size=1, max_size=30)


@hypothesis_settings(max_examples=200, deadline=None)
@given(calls=calls(), max_batch=st.integers(1, 9), arrivals=st.integers(1, 3))
def test_nobody_waits_for_more_than_twice_as_long_as_in_a_round(calls, max_batch, arrivals):
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        queue = FairQueue(contextlib.nullcontext())
        left = list(calls)
        waiting: Counter[str] = Counter()
        waited: Counter[str] = Counter()  # items of others since an owner had a turn, or began to wait
        while left or waiting:
            for owner, count in left[:arrivals]:
                call = CallScope(owner=owner)
                submission = Submission(call, loop.create_future(), [owner] * count, 0.0)
                queue.push(queue.hold(call, count), submission)
                waiting[owner] += count
            del left[:arrivals]
            taken = queue.pop(max_batch)
            assert len(taken) == min(max_batch, waiting.total())
            for submission, index in taken:
                owner = submission.items[index]
                waiting[owner] -= 1
                for other in waiting:
                    waited[other] = 0 if other == owner else waited[other] + 1
                    # Of at most three others, and with the rest of a batch that an owner had for itself.
                    assert waited[other] <= 2 * 3 + max_batch
                if not waiting[owner]:
                    del waiting[owner], waited[owner]
        assert len(queue) == 0

    asyncio.run(scenario())
