"""Observers: delivered later, in groups, in order, and bounded."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from service.inference import observers as module
from service.inference.observers import Observers


class Kept:
    """Keeps groups of events."""

    tensors = False

    def __init__(self, fails: bool = False) -> None:
        self.groups: list[list[Any]] = []
        self._fails = fails

    def observe(self, events: Sequence[Any]) -> None:
        self.groups.append(list(events))
        if self._fails:
            raise RuntimeError("no")


async def test_events_are_delivered_later_and_together():
    kept = Kept()
    observers = Observers([kept])
    observers.publish("a")
    observers.publish("b")
    assert kept.groups == []
    await asyncio.sleep(0.1)
    observers.publish("c")
    await asyncio.sleep(0.1)
    assert kept.groups == [["a", "b"], ["c"]]


async def test_an_observer_that_fails_does_not_affect_the_others(caplog: pytest.LogCaptureFixture):
    kept = Kept()
    observers = Observers([Kept(fails=True), kept])
    observers.publish("a")
    observers.flush()
    assert kept.groups == [["a"]]
    assert "the observer Kept failed" in caplog.text


async def test_what_exceeds_the_buffer_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_CAPACITY", 3)
    kept = Kept()
    observers = Observers([kept])
    for number in range(5):
        observers.publish(number)
    observers.flush()
    observers.publish(5)
    observers.flush()
    assert kept.groups == [[0, 1, 2], [5]]
    assert observers.dropped == 2


def test_tensors_are_kept_only_if_an_observer_asks_for_them():
    assert not Observers([Kept()]).tensors
    asks = Kept()
    asks.tensors = True
    assert Observers([Kept(), asks]).tensors
