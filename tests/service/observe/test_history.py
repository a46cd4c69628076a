"""The rows of the last hour: differences of the metrics, added up over processes, and bounded."""

import asyncio
import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.observe import history as module
from service.observe.events import RequestEnded
from service.observe.figures import Figures, numbers, read
from service.observe.history import ROWS, STEP, History
from service.observe.metrics import Metrics
from service.processes.board import Board

ROUTES = {"/v1/predict"}
NOW = 180_000_000


def ended(route: str = "/v1/predict", status: int = 200, seconds: float = 0.01, **facts: object) -> RequestEnded:
    return RequestEnded("a-1", "POST", route, route, facts, status, seconds, 0.0)


def row(requests: float = 0, available: float = math.nan, **items: float) -> Figures:
    """Figures with some numbers that are not zero."""
    found = read([], ROUTES)
    found.server["requests"], found.server["available"] = requests, available
    for model, count in {"": sum(items.values()), **items}.items():
        of_model = np.zeros_like(found.models[""])
        of_model["items"] = count
        found.models[model] = of_model
    return found


async def test_a_row_is_what_was_counted_since_the_one_before(monkeypatch: pytest.MonkeyPatch):
    metrics, clock, turns = Metrics(), [NOW * STEP + 3.0], 0
    history = History(Board(), metrics)
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal turns
        assert 5 <= seconds <= 15
        clock[0] += seconds
        turns += 1
        metrics.observe([ended()] * 30)
        if turns == 5:
            done.set()
            await asyncio.sleep(30)

    def measure() -> None:
        if turns == 2:
            raise OSError("no room")
        if turns == 4:
            clock[0] += 3  # the event loop was busy

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=sleep, to_thread=asyncio.to_thread))
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: clock[0], monotonic=lambda: clock[0]))
    metrics.observe([ended()] * 100)  # before the first row
    running = asyncio.create_task(history.run(measure, ROUTES))
    await asyncio.wait_for(done.wait(), 10)
    running.cancel()
    assert history.times == [(NOW + number) * STEP for number in (1, 3, 4)]
    # Counts of ten seconds: the first row had seven, the next twenty, since measuring failed in between, the last 13.
    assert history.server["requests"] == pytest.approx([30 / 0.7, 30, 30 / 1.3])


class SharedBoard(Board):
    """A board of several processes, without files."""

    shared = True

    def __init__(self, documents: dict[int, Callable[[], Any]], index: int) -> None:
        super().__init__(index=index)
        self._all = documents

    def publish(self, key: str, make: Callable[[], Any]) -> None:
        self._all[self.index] = make

    async def read(self, key: str) -> list[Any]:
        return [json.loads(json.dumps(make())) for make in self._all.values()]


async def test_processes_are_added_up_and_a_late_row_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_OTHERS_SECONDS", 0)
    documents: dict[int, Callable[[], Any]] = {}
    one, two = (History(SharedBoard(documents, index), Metrics()) for index in (0, 1))
    await asyncio.gather(one.add(NOW, row(1, 5e9, cat=2)), two.add(NOW, row(10, 4e9, cat=20, dog=30)))
    await one.add(NOW + 1, row(1, cat=1))
    assert one.server["requests"].tolist() == [11, 1]
    assert one.server["available"][0] == 4e9
    assert np.isnan(one.server["gpu_free"]).all()
    assert one.models["cat"]["items"].tolist() == [22, 1]
    assert one.models["dog"]["items"].tolist() == [30, 0]
    assert one.models[""]["items"].tolist() == [52, 1]
    await two.add(NOW + 1, row(5, 3e9))
    await one.add(NOW + 2, row(1))
    assert one.server["requests"].tolist() == [11, 6, 1]
    assert one.server["available"][1] == 3e9
    assert two.server["requests"].tolist() == [11, 6]


async def test_an_hour_is_kept_in_bounded_memory():
    history = History(Board(), Metrics())
    for index in range(ROWS + 40):
        await history.add(NOW + index, row(index, **{f"m{index % 50}": 1}))
    assert history.times == [(NOW + index) * STEP for index in range(40, ROWS + 40)]
    assert history.server["requests"].tolist() == list(range(40, ROWS + 40))
    assert history.models[""]["items"].sum() == ROWS
    assert len(history.names) == 24
    held = sum(rows.nbytes for rows in (history._server, *history._models.values()))
    assert held == ROWS * (numbers(history._server).shape[1] + 25 * numbers(history._models[""]).shape[1]) * 8
    assert held < 2.8e6
    for index in range(ROWS):
        await history.add(NOW + 1000 + index, row(1, other=1))
    assert set(history.names) == {"other"}  # the rest has done nothing for an hour


async def test_gaps_and_a_clock_that_is_set_back():
    history = History(Board(), Metrics())
    for period in (NOW, NOW + 1, NOW + 5, NOW + 400):
        await history.add(period, row(1))
    assert history.times == [(NOW + 400) * STEP]
    await history.add(NOW + 7, row(2))
    assert history.times == [(NOW + number) * STEP for number in (0, 1, 5, 7)]
    assert history.server["requests"].tolist() == [1, 1, 1, 2]


def test_before_the_first_row_there_is_nothing():
    history = History(Board(), Metrics())
    assert (history.times, len(history.server), len(history.models[""])) == ([], 0, 0)
