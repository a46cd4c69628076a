"""The scope of a call: deadline, progress, cancellation, and what leaving it releases."""

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import Abandoned, DeadlineExceeded
from service.inference.batcher import Batcher
from service.inference.observers import CallEnded, Observers
from service.inference.scope import CallScope
from tests.gated import Gated, batcher_of


def test_the_deadline_moves_with_progress():
    call = CallScope(timeout=0.05)
    first = call.deadline
    call.check()
    time.sleep(0.06)
    with pytest.raises(DeadlineExceeded, match=r"No progress within 0\.05 s"):
        call.check()
    call.progressed()
    assert call.deadline > first
    call.check()


def test_without_a_timeout_there_is_no_deadline():
    assert CallScope().deadline == float("inf")


def test_a_call_that_was_cancelled_is_over():
    call = CallScope()
    call.cancel()
    with pytest.raises(Abandoned):
        call.check()


def test_a_slow_call_is_reported_once():
    said = []
    call = CallScope(on_slow=lambda: said.append("slow"))
    call.slow()
    call.slow()
    assert said == ["slow"]
    CallScope().slow()


class Lender:
    """Lends one model, and counts its leases."""

    def __init__(self, batcher: Batcher) -> None:
        self.version = SimpleNamespace(batcher=batcher)
        self.leases = 0

    def lease(self, model: str, *_: object) -> Any:
        assert model == "ten"
        self.leases += 1
        return SimpleNamespace(version=self.version, release=self.returned, watched=False, shadow=None)

    def returned(self) -> None:
        self.leases -= 1


class Kept:
    """An observer that keeps calls."""

    tensors = True

    def __init__(self) -> None:
        self.calls: list[CallEnded] = []

    def observe(self, events: Sequence[Any]) -> None:
        self.calls += [event for event in events if isinstance(event, CallEnded)]


async def test_a_call_leases_infers_and_releases_everything():
    async with batcher_of(lambda items: [item * 10 for item in items]) as (batcher, _):
        lender, kept = Lender(batcher), Kept()
        observers = Observers([kept])
        async with CallScope(lender, owner="alice", observers=observers) as call:
            assert await call.infer(call.lease("ten"), [1, 2, 3, 4, 5]) == [10, 20, 30, 40, 50]
            assert lender.leases == 1
        assert lender.leases == 0
        observers.flush()
        (ended,) = kept.calls
        assert (ended.inputs, ended.outputs) == ([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])
        assert (ended.owner, ended.error, ended.labels) == ("alice", None, [("", "", "", "")])


@pytest.mark.parametrize("error", [ValueError("v"), asyncio.CancelledError(), KeyboardInterrupt()])
async def test_every_way_out_releases_what_the_call_holds(error: BaseException):
    async with batcher_of(Gated()) as (batcher, _):
        lender, kept = Lender(batcher), Kept()
        observers = Observers([kept])

        async def fails() -> None:
            async with CallScope(lender, observers=observers) as call:
                batcher.admission.admit(3, call)
                call.lease("ten")
                call.lease("ten")
                batcher.admission.expect(call, at_once=False)
                raise error

        with pytest.raises(type(error)):
            await fails()
        assert (lender.leases, batcher.admission.held, batcher.flow.queue.owners) == (0, 0, 0)
        observers.flush()
        assert [call.error for call in kept.calls] == [type(error).__name__]


async def test_a_call_without_a_repository_leases_nothing():
    with pytest.raises(TypeError, match="without a repository"):
        CallScope().lease("ten")
