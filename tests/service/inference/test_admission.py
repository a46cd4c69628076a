"""Admission: room that is kept, waits that are bounded, and when those who are refused are told to come back."""

import asyncio

import pytest

from service.errors import Overloaded
from service.inference.batcher import Batcher
from service.inference.context import Context
from service.inference.scheduler import Scheduler
from tests.gated import PATIENCE, Gated, Recorder, submit
from tests.service.inference.test_batcher import batcher_of, enqueue


async def test_a_full_queue_refuses():
    model = Gated()
    async with batcher_of(model, max_queue=3) as (batcher, _):
        enqueue(batcher, [0])
        await model.entered()
        enqueue(batcher, [1, 2])
        with pytest.raises(Overloaded, match="at most 3") as refusal:
            enqueue(batcher, [3, 4])
        assert refusal.value.retry_after is not None
        assert refusal.value.retry_after >= 0
        enqueue(batcher, [5])  # what still fits is accepted
        with pytest.raises(Overloaded):
            await submit(batcher, [6])
        assert batcher.depth == 3
        model.release()
        await model.entered()
        assert batcher.depth == 0  # and there is room again
        again = enqueue(batcher, [7])
        model.release(2)
        assert await again.future == [70]


async def test_a_deadline_that_cannot_be_met_is_refused_on_submission():
    model = Gated()
    async with batcher_of(model, max_batch=2) as (batcher, _):
        first = enqueue(batcher, [0])
        await model.entered()
        await asyncio.sleep(0.05)  # the model's time per item from now on
        model.release()
        await first.future
        enqueue(batcher, [1])
        await model.entered()
        waiting = enqueue(batcher, [2] * 9)
        with pytest.raises(Overloaded, match="longer than") as refusal:
            enqueue(batcher, [3], timeout=0.1)
        assert refusal.value.retry_after >= 0.05 * 10 - 0.1
        patient = enqueue(batcher, [4], timeout=PATIENCE * 10)
        model.release(100)
        await asyncio.gather(waiting.future, patient.future)
        assert 3 not in model.seen


async def test_room_is_kept_for_what_was_admitted_until_it_is_submitted_or_released():
    model = Gated()
    async with batcher_of(model, max_queue=3) as (batcher, _):
        enqueue(batcher, [0])
        await model.entered()
        first, second = Context(), Context()
        batcher.admit(1, first)
        batcher.admit(3, first)  # when it is known that there are more
        batcher.admit(3, first)  # has the room already
        with pytest.raises(Overloaded):
            batcher.admit(1, second)
        with pytest.raises(Overloaded):
            enqueue(batcher, [9])
        batcher.submit([1, 2], first)  # fewer than it was admitted with
        with pytest.raises(Overloaded):
            batcher.admit(2, second)
        batcher.admit(1, second)
        with pytest.raises(Overloaded):
            enqueue(batcher, [9])
        batcher.release(second)
        batcher.release(second)
        batcher.submit([3], second)
        assert batcher.depth == 3
        assert batcher._reserved == 0


@pytest.mark.parametrize(("waiting", "chance", "refused"), [(4, 0.0, False), (8, 0.5, True), (8, 0.7, False)])
async def test_near_the_longest_wait_chance_decides(
    waiting: int, chance: float, refused: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("random.random", lambda: chance)
    model, scheduler = Gated(), Scheduler(1)
    batcher = Batcher(
        model, max_batch=2, max_queue=1000, max_wait=1.0, observer=Recorder(), scheduler=scheduler, seconds_per_item=0.1
    )
    first = enqueue(batcher, [1] * waiting)
    if refused:
        with pytest.raises(Overloaded, match="not all requests can be let in"):
            enqueue(batcher, [2])
        admitted = Context()
        admitted.next_round = 1  # of a call that has begun
        batcher.submit([3], admitted)
    else:
        enqueue(batcher, [2])
    model.release(100)
    await first.future
    await batcher.close()
    await scheduler.close()


async def test_what_would_wait_for_longer_than_it_may_is_refused_though_the_queue_has_room():
    model, scheduler = Gated(), Scheduler(1)
    batcher = Batcher(
        model, max_batch=2, max_queue=1000, max_wait=1.0, observer=Recorder(), scheduler=scheduler, seconds_per_item=0.1
    )
    waiting = enqueue(batcher, [1] * 11)  # more than a second of work
    with pytest.raises(Overloaded, match=r"longer than the 1\.0 s that this request may wait"):
        enqueue(batcher, [3])
    model.release(100)
    await waiting.future
    await batcher.close()
    await scheduler.close()


async def test_those_who_are_refused_are_told_to_come_back_one_after_the_other():
    model, scheduler = Gated(), Scheduler(1)
    batcher = Batcher(
        model, max_batch=2, max_queue=1000, max_wait=1.0, observer=Recorder(), scheduler=scheduler, seconds_per_item=0.5
    )
    waiting = enqueue(batcher, [1] * 4)  # two seconds of work
    times = []
    for _ in range(4):
        with pytest.raises(Overloaded) as refusal:
            enqueue(batcher, [2])
        times.append(refusal.value.retry_after)
    assert times == pytest.approx([1.0, 2.0, 3.0, 4.0], abs=0.1)
    model.release(100)
    await waiting.future
    await batcher.close()
    await scheduler.close()
