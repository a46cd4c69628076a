"""Admission: room that is kept, waits that are bounded, and when those who are refused are told to come back."""

import asyncio

import pytest

from service.errors import Overloaded
from service.inference import admission
from service.inference.admission import MAX_RETRY_AFTER
from service.inference.batcher import Batcher
from service.inference.context import Context
from service.inference.scheduler import Scheduler
from tests.gated import PATIENCE, Gated, Recorder, batcher_of, enqueue, submit


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
            enqueue(batcher, [3, 3], timeout=0.1)
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
        batcher.admission.admit(1, first)
        batcher.admission.admit(3, first)  # when it is known that there are more
        batcher.admission.admit(3, first)  # has the room already
        with pytest.raises(Overloaded):
            batcher.admission.admit(1, second)
        with pytest.raises(Overloaded):
            enqueue(batcher, [9])
        batcher.submit([1, 2], first)
        with pytest.raises(Overloaded):
            batcher.admission.admit(1, second)  # there is still room kept for the third
        batcher.admission.release(first)
        with pytest.raises(Overloaded):
            batcher.admission.admit(2, second)
        batcher.admission.admit(1, second)
        with pytest.raises(Overloaded):
            enqueue(batcher, [9])
        batcher.admission.release(second)
        batcher.admission.release(second)
        batcher.submit([3], second)
        assert batcher.depth == 3
        assert batcher.admission._reserved == 0


async def test_a_call_counts_with_all_its_items_up_to_two_batches_or_sixteen():
    async with batcher_of(Gated(), max_batch=2, max_queue=32) as (batcher, _):
        contexts = [Context() for _ in range(4)]
        batcher.admission.admit(4, contexts[0])
        batcher.admission.admit(10_000, contexts[1])
        batcher.admission.admit(1, contexts[2])
        assert [context.reserved for context in contexts] == [4, 16, 1, 0]
        with pytest.raises(Overloaded):
            batcher.admission.admit(10_000, contexts[3])
        assert batcher.admission._reserved == 21
        assert batcher.admission._reserved_lone == 1
        for context in contexts:
            batcher.admission.release(context)
        assert batcher.admission._reserved == batcher.admission._reserved_lone == 0


async def test_an_item_counts_with_its_decoding_until_it_is_queued(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("random.random", lambda: 1.0)
    async with batcher_of(Gated(), max_batch=2) as (batcher, _):
        batcher.admission._max_wait = 1.0
        batcher.flow.seconds_per_item = 0.05
        batcher.prepared(0.9, 0.1)  # for most of its time it waited
        first, second = Context(), Context()
        batcher.admission.admit(5, first)
        batcher.admission.admit(2, second)  # 5 x 0.15 s
        with pytest.raises(Overloaded, match=r"about 1\.1 s, longer than the 1\.0 s"):
            batcher.admission.admit(2, Context())
        batcher.submit([1] * 5, first)
        batcher.admission.admit(2, Context())  # 5 x 0.05 + 2 x 0.15 s
        batcher.admission.release(second)


async def test_lone_items_do_not_wait_behind_large_calls_but_behind_each_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("random.random", lambda: 2.0)  # chance refuses nobody
    async with batcher_of(Gated(), max_batch=2) as (batcher, _):
        batcher.admission._max_wait = 1.0
        batcher.flow.seconds_per_item = 0.1
        batcher.admission.admit(10, Context())
        for _ in range(6):
            batcher.admission.admit(1, Context())
        with pytest.raises(Overloaded, match=r"about 1\.2 s"):
            batcher.admission.admit(1, Context())


async def test_a_body_that_takes_its_time_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.inference.admission._READING_SECONDS", 0.01)
    async with batcher_of(Gated(), max_queue=2) as (batcher, _):
        slow, quick, other = Context(), Context(), Context()
        batcher.admission.admit_unread(slow, small=False)
        batcher.admission.admit_unread(quick, small=False)
        with pytest.raises(Overloaded):
            batcher.admission.admit_unread(other, small=False)
        batcher.admission.admit_unread(other, small=True)
        batcher.admission.admit(1, other)  # its body is there
        batcher.admission.admit(1, quick)
        with pytest.raises(Overloaded):
            batcher.admission.admit(1, slow)
        batcher.admission.release(quick)
        await asyncio.sleep(0.05)
        batcher.admission.admit_unread(quick, small=False)  # the slow one has lost its room
        batcher.admission.admit(1, slow)
        batcher.admission.release(quick)
        batcher.admission.release(slow)
        batcher.admission.release(other)
        assert batcher.admission._unread == batcher.admission._reserved == 0


@pytest.mark.parametrize(
    ("waiting", "chance", "refused"), [(4, 0.0, False), (8, 0.7, True), (8, 0.8, False), (9, 0.99, True)]
)
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
            enqueue(batcher, [2, 2])
        admitted = Context()
        admitted.next_round = 1  # of a call that has begun
        batcher.submit([3], admitted)
    else:
        enqueue(batcher, [2, 2])
    model.release(100)
    await first.future
    await batcher.close()
    await scheduler.close()


async def test_near_a_full_queue_chance_decides_too(monkeypatch: pytest.MonkeyPatch):
    async with batcher_of(Gated(), max_queue=10) as (batcher, _):
        batcher.admission._negligible = 0.0
        batcher.admission.admit(8, Context())
        monkeypatch.setattr("random.random", lambda: 0.5)
        with pytest.raises(Overloaded, match="not all requests can be let in"):
            batcher.admission.admit(2, Context())
        batcher.admission.admit(1, Context())  # a lone item, which waits behind none of them
        monkeypatch.setattr("random.random", lambda: 1.0)
        batcher.admission.admit(1, Context())


async def test_what_would_wait_for_longer_than_it_may_is_refused_though_the_queue_has_room():
    model, scheduler = Gated(), Scheduler(1)
    batcher = Batcher(
        model, max_batch=2, max_queue=1000, max_wait=1.0, observer=Recorder(), scheduler=scheduler, seconds_per_item=0.1
    )
    waiting = enqueue(batcher, [1] * 11)  # more than a second of work
    with pytest.raises(Overloaded, match=r"longer than the 1\.0 s that this request may wait"):
        enqueue(batcher, [3, 3])
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
            enqueue(batcher, [2, 2])
        times.append(refusal.value.retry_after)
    assert times == pytest.approx([1.0, 3.0, 5.0, 7.0], abs=0.1)
    model.release(100)
    await waiting.future
    await batcher.close()
    await scheduler.close()


def full() -> tuple[Gated, Scheduler, Batcher]:
    model, scheduler = Gated(), Scheduler(1)
    batcher = Batcher(
        model,
        max_batch=2,
        max_queue=1000,
        max_wait=1.0,
        observer=Recorder(),
        scheduler=scheduler,
        seconds_per_item=0.5,
    )
    enqueue(batcher, [1] * 4)
    return model, scheduler, batcher


def refused(batcher: Batcher, owner: object = None) -> float:
    """Seconds after which a caller is to retry."""
    with pytest.raises(Overloaded) as refusal:
        batcher.admission.admit(2, Context(owner=owner))
    assert refusal.value.retry_after is not None
    return refusal.value.retry_after


async def test_nobody_is_asked_to_wait_for_longer_than_half_a_minute():
    model, scheduler, batcher = full()
    waits = [refused(batcher) for _ in range(200)]
    assert max(waits) <= MAX_RETRY_AFTER
    late = waits[100:]
    assert min(late) >= MAX_RETRY_AFTER / 2
    assert len(set(late)) == len(late)  # they do not come back together
    model.release(100)
    await batcher.close()
    await scheduler.close()


async def test_whoever_comes_too_early_is_told_the_same_time_again_and_whoever_is_in_time_is_let_in(
    monkeypatch: pytest.MonkeyPatch,
):
    model, scheduler, batcher = full()
    monkeypatch.setattr("random.random", lambda: 0.0)  # chance would refuse all others
    first = refused(batcher, "a")
    for _ in range(50):
        assert refused(batcher, "a") == pytest.approx(first, abs=0.1)
    assert refused(batcher, "b") == pytest.approx(first + 2.0, abs=0.1)  # the impatient caller has pushed nobody back
    forward(batcher, first - 0.1)
    assert refused(batcher, "a") == pytest.approx(0.1, abs=0.09)
    forward(batcher, 0.2)
    assert refused(batcher, "a") == pytest.approx(1.0, abs=0.1)  # there is no room yet: it keeps its place
    model.release(1)
    await model.entered()
    batcher.flow.seconds_per_item = 0.45
    with pytest.raises(Overloaded, match="asked to retry later"):
        batcher.admission.admit(1, Context(owner="a"))
    forward(batcher, 1.1)
    with pytest.raises(Overloaded, match="not all requests"):
        batcher.admission.admit(1, Context(owner="stranger"))
    batcher.admission.admit(1, Context(owner="a"))
    model.release(100)
    await batcher.close()
    await scheduler.close()


async def test_few_callers_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "_MAX_RETRIES", 10)
    model, scheduler, batcher = full()
    for owner in range(100):
        refused(batcher, owner)
    assert list(batcher.admission._retries) == list(range(90, 100))
    model.release(100)
    await batcher.close()
    await scheduler.close()


def forward(batcher: Batcher, seconds: float) -> None:
    """Lets time pass for those who were asked to retry."""
    room = batcher.admission
    room._next_retry -= seconds
    for owner in room._retries:
        room._retries[owner] -= seconds
