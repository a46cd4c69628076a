"""The batcher: answers, cancellation, expiry, shutdown."""

import asyncio
import gc
import time
import weakref
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from service.errors import Abandoned, DeadlineExceeded, Draining, InferenceFailed
from service.inference.batcher import Batcher
from service.inference.call import BACKGROUND
from service.inference.scheduler import Scheduler
from service.inference.scope import CallScope
from tests.gated import PATIENCE, Gated, Recorder, batcher_of, enqueue, submit


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
        batcher._sweep()  # as it runs many times a second
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


class Fate(NamedTuple):
    """What happens to a call of a random scenario."""

    size: int
    owner: str
    cancelled: bool
    late: bool
    fails: bool


FATES = st.builds(Fate, st.integers(1, 25), st.sampled_from(["a", "b", BACKGROUND]), *[st.booleans()] * 3)


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    max_batch=st.integers(1, 9),
    fates=st.lists(FATES, min_size=1, max_size=12),
    held=st.booleans(),
    inline=st.booleans(),
)
def test_nothing_is_lost_or_answered_twice_and_all_counters_return_to_zero(
    max_batch: int, fates: list[Fate], held: bool, inline: bool
):
    """Random owners, deadlines, cancellations and failures; `held` lets all of them happen before the first batch."""

    async def scenario() -> None:
        model, gate = Gated(), Gated()

        def run(items: list[int]) -> list[int]:
            if items == [-1]:
                return gate(items)
            model.batches.append(list(items))
            if any(fates[item // 1000].fails and item % 1000 == 0 for item in items):
                raise RuntimeError("unlucky")
            return [item * 10 for item in items]

        scheduler = None if inline else Scheduler(2)
        recorder = Recorder()
        batcher = Batcher(run, max_batch=max_batch, max_queue=10_000, scheduler=scheduler, observers=recorder)
        if held and scheduler:
            enqueue(batcher, [-1])
            await gate.entered()
        submissions = []
        for number, fate in enumerate(fates):
            call = CallScope(owner=fate.owner, timeout=PATIENCE)
            submissions.append(enqueue(batcher, [1000 * number + index for index in range(fate.size)], call))
            if fate.late:
                call.deadline = time.monotonic()
            if fate.cancelled:
                call.cancel()
            if number % 3 == 0:
                await asyncio.sleep(0)
        if held:
            await asyncio.sleep(0.002)
            batcher._sweep()
        gate.release(10_000)
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(each.future for each in submissions), return_exceptions=True)
            await asyncio.sleep(0)  # releases the rooms; gather does not yield in newer Pythons if all are done
            await batcher.close()
            if scheduler:
                await scheduler.close()
        for number, (fate, answer) in enumerate(zip(fates, answers, strict=True)):
            if isinstance(answer, list):
                assert answer == [(1000 * number + index) * 10 for index in range(fate.size)]
                assert not fate.fails
            else:
                allowed = {Abandoned: fate.cancelled, DeadlineExceeded: fate.late, InferenceFailed: fate.fails}
                assert allowed[type(answer)]
        assert max(map(len, model.batches), default=0) <= max_batch
        good = [item for item in model.seen if not fates[item // 1000].fails]
        if not any(fate.fails for fate in fates):
            assert len(good) == len(set(good))  # halving a batch that fails runs its good items again
            assert len(good) + sum(recorder.drops.values()) == sum(fate.size for fate in fates)
        flow = batcher.flow
        assert (batcher.admission.held, batcher.depth, flow.in_flight, flow.queue.owners) == (0, 0, 0, 0)
        assert not batcher._waiting

    asyncio.run(scenario())


async def test_cancelled_items_leave_the_queue_even_if_the_model_hangs():
    model = Gated()
    async with batcher_of(model) as (batcher, recorder):
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


async def test_a_closed_batcher_is_freed_without_the_garbage_collector():
    class Model:
        def __call__(self, items: list[object]) -> list[object]:
            return items

    model, scheduler = Model(), Scheduler(1)
    batcher = Batcher(model, max_batch=4, max_queue=100, scheduler=scheduler)
    freed = asyncio.Event()
    weakref.finalize(model, freed.set)
    await submit(batcher, [1])
    await batcher.close()
    await scheduler.close()
    gc.disable()
    try:
        del batcher, model
        await asyncio.wait_for(freed.wait(), PATIENCE)  # until its last timer has run
    finally:
        gc.enable()
