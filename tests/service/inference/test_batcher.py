"""The batcher: order, batches, fairness, priority, cancellation, expiry, refusal, failure, shutdown."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, Draining, InferenceFailed
from service.inference.batcher import Batcher
from service.inference.context import Context
from service.inference.queue import Submission
from service.inference.scheduler import Scheduler
from tests.gated import PATIENCE, Gated, Recorder, submit


@asynccontextmanager
async def batcher_of(
    run: Callable[[list[Any]], Sequence[Any]], max_batch: int = 4, max_queue: int = 1000
) -> AsyncIterator[tuple[Batcher, Recorder]]:
    recorder, scheduler = Recorder(), Scheduler(1)
    batcher = Batcher(run, max_batch=max_batch, max_queue=max_queue, observer=recorder, scheduler=scheduler)
    try:
        yield batcher, recorder
    finally:
        if isinstance(run, Gated):
            run.release(10_000)
        async with asyncio.timeout(PATIENCE):
            await batcher.close()
            await scheduler.close()


def enqueue(batcher: Batcher, items: Sequence[Any], **options: Any) -> Submission:
    return batcher.submit(items, Context(**options))


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
        assert model.seen == ["plug", "urgent", "first", "second", "late", "later"]


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
        assert position <= 4  # five first items before it, two in each batch
        assert all(set(batch) - {"small", "last"} for batch in model.batches[1:])  # the large ones go on meanwhile


async def test_bad_items_alone_do_not_make_a_model_broken():
    broken = []

    def run(items: list[int]) -> list[int]:
        if broken or 0 in items:
            raise RuntimeError("no")
        return items

    scheduler = Scheduler(1)
    batcher = Batcher(run, max_batch=4, max_queue=10, observer=Recorder(), scheduler=scheduler, probe=7)
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
            ["first", "other", "first", "first"],
            ["first", "second", "second", "second"],
            ["second"],
        ]
