"""The batcher: answers, cancellation, expiry, shutdown."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, Draining
from tests.gated import PATIENCE, Gated, batcher_of, enqueue, submit


async def test_results_come_in_the_order_of_the_items():
    async with batcher_of(lambda items: [item * 10 for item in items]) as (batcher, _):
        results, timing = await submit(batcher, range(11))
        assert results == [item * 10 for item in range(11)]
        assert timing.queue_seconds >= 0
        assert timing.inference_seconds > 0


async def test_an_idle_model_takes_a_lone_item_at_once():
    model = Gated()
    async with batcher_of(model) as (batcher, _):
        enqueue(batcher, ["a"])
        await model.entered()
        assert model.batches == [["a"]]
        assert batcher.depth == 0


async def test_a_cancelled_callers_items_never_reach_the_model():
    model = Gated()
    async with batcher_of(model) as (batcher, recorder):
        enqueue(batcher, [0])
        await model.entered()
        caller = asyncio.create_task(submit(batcher, [1, 2]))
        await asyncio.sleep(0)
        assert batcher.depth == 2
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        after = enqueue(batcher, [3])
        model.release(2)
        assert await after.future == [30]
        assert model.seen == [0, 3]
        assert recorder.drops == {"abandoned": 2}


async def test_a_caller_cancelled_while_its_batch_runs_harms_nobody():
    model = Gated()
    async with batcher_of(model) as (batcher, recorder):
        enqueue(batcher, [0])
        await model.entered()
        gone, stays = enqueue(batcher, [1]), enqueue(batcher, [2])
        model.release()
        await model.entered()
        gone.future.cancel()
        model.release()
        assert await stays.future == [20]
        assert model.batches == [[0], [1, 2]]
        assert recorder.drops == {}


async def test_drops_are_reported_without_waiting_for_the_next_batch():
    model = Gated()
    async with batcher_of(model) as (batcher, recorder):
        enqueue(batcher, [0])
        await model.entered()
        enqueue(batcher, [1]).future.cancel()
        model.release()
        async with asyncio.timeout(5):
            await recorder.dropped_any.wait()
        assert recorder.drops == {"abandoned": 1}


async def test_an_item_expires_in_the_queue_though_the_model_hangs():
    model = Gated()
    async with batcher_of(model) as (batcher, recorder):
        enqueue(batcher, [0])
        await model.entered()
        with pytest.raises(DeadlineExceeded, match="try again"):
            await submit(batcher, [1, 2, 3], timeout=0.02)
        after = enqueue(batcher, [4])
        model.release(2)
        assert await after.future == [40]
        assert model.seen == [0, 4]
        assert recorder.drops == {"expired": 3}


async def test_an_item_expires_though_the_model_hangs_on_it():
    model = Gated()
    async with batcher_of(model) as (batcher, _):
        with pytest.raises(DeadlineExceeded):
            await submit(batcher, [1], timeout=0.02)
        assert model.seen == [1]
        model.release(2)
        assert (await submit(batcher, [2]))[0] == [20]


async def test_close_finishes_what_was_accepted_and_refuses_what_is_new():
    model = Gated()
    async with batcher_of(model, max_batch=2) as (batcher, _):
        submissions = [enqueue(batcher, [item]) for item in range(7)]
        await model.entered()
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await submit(batcher, [99])
        assert not closing.done()
        model.release(10)
        async with asyncio.timeout(PATIENCE):
            await closing
        # Every answer is ready when `close` returns.
        assert [submission.future.result() for submission in submissions] == [[item * 10] for item in range(7)]
        assert 99 not in model.seen


async def test_an_idle_batcher_closes_and_closes_again():
    async with batcher_of(lambda items: items) as (batcher, _):
        async with asyncio.timeout(PATIENCE):
            await batcher.close()
            await batcher.close()


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    max_batch=st.integers(1, 9),
    calls=st.lists(st.tuples(st.integers(1, 25), st.booleans(), st.integers(-1, 1)), min_size=1, max_size=12),
    held=st.booleans(),
)
def test_every_accepted_item_gets_its_own_answer(max_batch, calls, held):
    """Calls of (size, whether it is cancelled, priority); `held` cancels them all before any batch is formed."""

    async def scenario() -> None:
        model = Gated()
        async with batcher_of(model, max_batch=max_batch) as (batcher, recorder):
            if held:
                enqueue(batcher, [-1])
                await model.entered()
            else:
                model.release(10_000)
            submissions = []
            for number, (size, cancelled, priority) in enumerate(calls):
                items = [1000 * number + index for index in range(size)]
                submission = enqueue(batcher, items, priority=priority)
                if cancelled:
                    submission.future.cancel()
                else:
                    submissions.append((submission, items))
                await asyncio.sleep(0)
            if held:
                model.release(10_000)
            async with asyncio.timeout(PATIENCE):
                for submission, items in submissions:
                    assert await submission.future == [item * 10 for item in items]
                await batcher.close()
            assert max(map(len, model.batches), default=0) <= max_batch
            assert len(model.seen) == len(set(model.seen))
            if held:
                kept = {item for _, items in submissions for item in items}
                assert set(model.seen) - {-1} == kept
                assert recorder.drops.get("abandoned", 0) == sum(size for size, cancelled, _ in calls if cancelled)

    asyncio.run(scenario())


async def test_cancelled_items_leave_the_queue_even_if_the_model_hangs():
    model = Gated()
    async with batcher_of(model, max_queue=3) as (batcher, recorder):
        enqueue(batcher, [0])
        await model.entered()
        late = enqueue(batcher, [1, 2], timeout=0.02)
        given_up = enqueue(batcher, [3])
        given_up.future.cancel()
        with pytest.raises(DeadlineExceeded):
            await late.future
        batcher._sweep()  # as it runs many times a second
        assert batcher.depth == 0
        assert recorder.drops == {"expired": 2, "abandoned": 1}
        after = enqueue(batcher, [4, 5, 6])
        model.release(3)
        assert await after.future == [40, 50, 60]


async def test_items_of_a_disconnected_client_do_not_count_as_expired():
    model = Gated()
    async with batcher_of(model) as (batcher, recorder):
        enqueue(batcher, [0])
        await model.entered()
        enqueue(batcher, [1], timeout=0.001).future.cancel()
        await asyncio.sleep(0.01)
        model.release(2)
        async with asyncio.timeout(PATIENCE):
            await recorder.dropped_any.wait()
        assert recorder.drops == {"abandoned": 1}
