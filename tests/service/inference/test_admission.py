"""Admission: room that is reserved, waits that are bounded, and when refused owners are told to come back."""

import asyncio
import time
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import pytest

from service.errors import DeadlineExceeded, Draining, Overloaded
from service.inference import admission as module
from service.inference.admission import MAX_RETRY_AFTER, MIN_RETRY_AFTER, Reservation
from service.inference.batcher import Batcher
from service.inference.call import BACKGROUND
from service.inference.scheduler import Scheduler
from service.inference.scope import CallScope
from tests.gated import Gated


@asynccontextmanager
async def batcher_with(**options: object) -> AsyncIterator[Batcher]:
    """A batcher whose items cost 0.1 s each and may wait for a second, unless the options say otherwise."""
    defaults = {"max_batch": 2, "max_queue": 1000, "max_wait": 1.0, "seconds_per_item": 0.1}
    scheduler = Scheduler(1)
    batcher = Batcher(Gated(), scheduler=scheduler, **{**defaults, **options})
    yield batcher
    await batcher.close()
    await scheduler.close()


def admit(batcher: Batcher, count: int, owner: Hashable = None, **options: object) -> Reservation:
    return batcher.admission.admit(count, CallScope(owner=owner or object(), **options))


async def test_an_owner_may_hold_as_many_items_as_are_left():
    async with batcher_with(max_queue=30, max_wait=1000.0) as batcher:
        room = admit(batcher, 11, "a")
        with pytest.raises(Overloaded, match="11 items wait already, and at most 30 may"):
            admit(batcher, 9, "a")
        admit(batcher, 4, "b")
        with pytest.raises(Overloaded):
            admit(batcher, 16, "c")
        admit(batcher, 2, "d")
        room.release()
        admit(batcher, 5, "e")


async def test_the_largest_call_fits_into_an_empty_queue():
    async with batcher_with(max_batch=8, max_queue=16) as batcher:
        admit(batcher, 10_000)
        with pytest.raises(Overloaded):
            admit(batcher, 1)


async def test_room_returns_to_zero():
    async with batcher_with(max_wait=100.0) as batcher:
        queue = batcher.flow.queue
        calls = [CallScope(owner=owner) for owner in ("a", "a", "b")]
        rooms = [batcher.admission.admit(2, call) for call in calls]
        assert (batcher.admission.held, queue.held_by("a"), queue.held_by("b"), queue.owners) == (6, 4, 2, 2)
        rooms[0].shrink(1)
        rooms[0].shrink(2)  # never grows
        assert batcher.admission.held == 5
        for call in calls:
            call.close()
            call.close()
        assert (batcher.admission.held, queue.owners, queue._backlogs) == (0, 0, {})


async def test_a_long_call_holds_what_it_has_in_flight():
    async with batcher_with(max_wait=100.0) as batcher:
        assert admit(batcher, 10_000).held == 16
        assert admit(batcher, 4).held == 4
    async with batcher_with(max_batch=64, max_wait=100.0) as batcher:
        assert admit(batcher, 10_000).held == 128


async def test_a_call_that_would_wait_for_too_long_is_refused():
    async with batcher_with() as batcher:
        admit(batcher, 11, "a")  # 1.1 s of work
        with pytest.raises(Overloaded, match=r"about 1\.1 s, and this request may wait for 0\.7 s"):
            admit(batcher, 1, "a")


async def test_a_call_whose_deadline_cannot_be_met_is_refused():
    async with batcher_with() as batcher:
        admit(batcher, 5, "a")
        with pytest.raises(Overloaded, match=r"may wait for 0\.2 s"):
            admit(batcher, 1, "a", timeout=0.3)
        with pytest.raises(DeadlineExceeded):
            admit(batcher, 1, "a", timeout=0.0)


async def test_a_lone_item_of_a_new_owner_does_not_wait_for_large_calls():
    async with batcher_with() as batcher:
        admit(batcher, 16, "a", timeout=100.0)
        with pytest.raises(Overloaded):
            admit(batcher, 16, "b")
        admit(batcher, 1, "c")


async def test_an_owner_waits_for_its_share_of_the_others():
    async with batcher_with(max_wait=10.0) as batcher:
        queue = batcher.flow.queue
        admit(batcher, 16, "a")
        assert queue.ahead(CallScope(owner="b"), 1) == 2
        assert queue.ahead(CallScope(owner="b"), 3) == 6  # as many of the other one, and those that come first
        assert queue.ahead(CallScope(owner="b", weight=3.0), 6) == 4
        assert queue.ahead(CallScope(owner="a"), 1) == 16
        assert queue.ahead(CallScope(owner=BACKGROUND), 4) == 8


async def test_an_item_counts_with_its_decoding_until_it_is_queued():
    async with batcher_with(seconds_per_item=0.05) as batcher:
        batcher.admission.prepared(0.1)
        room = admit(batcher, 6, "a")  # 6 x 0.15 s
        with pytest.raises(Overloaded, match=r"about 0\.9 s"):
            admit(batcher, 1, "a")
        batcher.submit([1] * 6, room)
        admit(batcher, 1, "a")
        room.call.cancel()


async def test_other_models_count():
    async with batcher_with() as batcher:
        other = Batcher(Gated(), max_batch=2, max_queue=100, scheduler=batcher._scheduler, seconds_per_item=0.1)
        other.flow.in_flight = 5
        admit(batcher, 4, "a")
        with pytest.raises(Overloaded, match=r"about 0\.8 s"):
            admit(batcher, 1, "a")
        other.flow.in_flight = 0
        batcher.admission._refused.clear()
        admit(batcher, 1, "a")
        await other.close()


async def test_a_body_that_takes_its_time_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_READING_SECONDS", 0.01)
    async with batcher_with(max_batch=1, max_queue=2) as batcher:
        room = batcher.admission
        slow, quick, other = (CallScope(owner=owner) for owner in ("slow", "quick", "other"))
        room.expect(slow, at_once=False)
        room.expect(quick, at_once=False)
        with pytest.raises(Overloaded):
            room.expect(other, at_once=False)
        room.admit(1, other)  # its body has arrived
        other.close()
        await asyncio.sleep(0.05)
        room.expect(other, at_once=False)  # the slow ones count no longer
        room.admit(1, quick)
        quick.close()
        room.admit(1, slow)
        slow.close()
        other.close()
        await asyncio.sleep(0.05)
        assert (room.held, room._reading) == (0, 0)


async def test_nothing_is_admitted_after_closing():
    async with batcher_with() as batcher:
        batcher.admission.closed = True
        with pytest.raises(Draining):
            admit(batcher, 1)
        with pytest.raises(Draining):
            batcher.admission.expect(CallScope(), at_once=False)
        batcher.admission.closed = False


def crowd(batcher: Batcher) -> Reservation:
    """Owners whose calls take longer than a call may wait; the room of the first."""
    batcher.admission._max_wait = 100.0
    rooms = [admit(batcher, 8) for _ in range(6)]
    batcher.admission._max_wait = 1.0
    return rooms[0]


def refused(batcher: Batcher, owner: Hashable = "client") -> Overloaded:
    with pytest.raises(Overloaded) as refusal:
        admit(batcher, 2, owner)
    assert refusal.value.retry_after is not None
    return refusal.value


async def test_refused_owners_are_told_different_times_within_bounds():
    async with batcher_with() as batcher:
        crowd(batcher)
        waits = [refused(batcher, owner).retry_after for owner in range(400)]
        assert min(waits) >= MIN_RETRY_AFTER
        assert max(waits) <= MAX_RETRY_AFTER
        assert len({round(wait, 3) for wait in waits}) > 200
        # More of them are spread over a longer time.
        assert sorted(waits[:40])[20] < sorted(waits[100:140])[20]


async def test_an_owner_that_retries_too_early_is_told_the_same_time_again():
    async with batcher_with() as batcher:
        crowd(batcher)
        first = refused(batcher)
        again = refused(batcher)
        assert (first.early, again.early) == (False, True)
        assert again.retry_after == pytest.approx(first.retry_after, abs=0.1)
        batcher.flow.seconds_per_item = 0.001
        admit(batcher, 2, "client")  # there is room, so nobody has to wait
        assert "client" not in batcher.admission._refused


async def test_the_rest_of_a_bound_is_for_owners_that_retry_in_time():
    async with batcher_with() as batcher:
        crowd(batcher)
        refused(batcher)
        batcher.admission._refused["client"] = time.monotonic() - 1.0  # it is time
        assert refused(batcher).retry_after < 2.0  # no room yet: soon again
        batcher.admission._refused["client"] = time.monotonic() - 1.0
        batcher.flow.seconds_per_item = 0.95 / 24
        refused(batcher, "another one")
        batcher.admission.expect(CallScope(owner="client"), at_once=False)
        admit(batcher, 2, "client")


async def test_the_number_of_refused_owners_that_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MAX_REFUSED", 10)
    async with batcher_with() as batcher:
        crowd(batcher)
        for owner in range(100):
            refused(batcher, owner)
        assert list(batcher.admission._refused) == list(range(90, 100))
