"""Memory that large requests have left is given back, and not asked for again and again."""

import sys
import threading

import pytest

from service import memory


@pytest.mark.skipif(sys.platform != "linux", reason="the C library gives memory back on Linux alone")
def test_it_trims_where_much_has_been_left_behind(monkeypatch: pytest.MonkeyPatch):
    resident = [100_000_000]
    begun: list[str] = []

    class Thread:
        def __init__(self, target, name, daemon) -> None:
            self.target = target

        def start(self) -> None:
            begun.append("trim")
            self.target()

    monkeypatch.setattr(memory, "_resident_bytes", lambda: resident[0])
    monkeypatch.setattr(memory, "_TRIM_SECONDS", 0.0)
    monkeypatch.setattr(memory, "_TRIM_SECONDS_BUSY", 0.0)
    monkeypatch.setattr(threading, "Thread", Thread)
    trim = memory.Trimmer()
    trim(busy=False)
    assert begun == ["trim"]  # what loading has left
    trim(busy=False)
    resident[0] += 1_000_000
    trim(busy=False)
    assert begun == ["trim"]
    resident[0] += 50_000_000
    trim(busy=False)
    assert begun == ["trim", "trim"]
    # While requests are being answered it has to be worth more.
    resident[0] += 50_000_000
    trim(busy=True)
    assert begun == ["trim", "trim"]
    resident[0] += 50_000_000
    trim(busy=True)
    assert begun == ["trim", "trim", "trim"]


def test_it_does_not_look_more_often_than_every_few_seconds(monkeypatch: pytest.MonkeyPatch):
    looked: list[int] = []
    monkeypatch.setattr(memory, "_resident_bytes", lambda: looked.append(1) or 1)
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    trim = memory.Trimmer()
    for _ in range(10):
        trim(busy=False)
    assert len(looked) <= 1


def test_the_resident_bytes_are_those_of_this_process():
    assert 10_000_000 < memory._resident_bytes() < 10**11
