"""Which calls are counted, by which versions, and what is said of them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.drift import observer as module
from service.drift.observer import Drifts
from service.inference.call import BACKGROUND
from service.inference.observers import CallEnded
from service.processes.board import Board
from service.tasks.registry import BUILT_IN
from tests.service.drift.drifting import MANIFEST, PLAIN, images, rows
from tests.shadowed import until


def version(number: str = "1", manifest: Any = MANIFEST) -> Any:
    return SimpleNamespace(name="classifier", version=number, manifest=manifest)


def ended(count: int = 1, seed: int = 0, number: str = "1", brightness: float = 1.0, **changes: Any) -> CallEnded:
    pixels = images(count, seed, brightness)
    event = CallEnded(
        labels=[("classifier", number, "", "reference")], owner="alice", started=0.0, decode_times=[],
        queue_seconds=0.0, inference_seconds=0.0, error=None, inputs=list(pixels), outputs=rows(pixels),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(event, name, value)
    return event


@asynccontextmanager
async def watching(board: Board | None = None, **versions: Any) -> AsyncIterator[Drifts]:
    drifts = Drifts(BUILT_IN.tasks, board or Board())
    drifts.update([version(number.strip("_"), manifest) for number, manifest in (versions or {"_1": MANIFEST}).items()])
    try:
        yield drifts
    finally:
        await drifts.close()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPORT_SECONDS", 0.01)


async def items(drifts: Drifts, number: str = "1") -> int:
    state = await drifts.state("classifier", number)
    assert state is not None
    return int(state["items"])


async def test_calls_count_for_the_version_that_answered():
    async with watching(_1=MANIFEST, _2=MANIFEST, _3=PLAIN) as drifts:
        drifts.observe([ended(3), ended(2, number="2"), ended(5, number="3"), ended(1, number="9"), object()])
        assert (await items(drifts), await items(drifts, "2")) == (3, 2)
        assert await drifts.state("classifier", "3") is None
        assert await drifts.state("other", "1") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"error": "undecodable-image"},
        {"owner": BACKGROUND},  # variations of an input, for an explanation
        {"labels": [("classifier", "1", "", "reference"), ("decoder", "1", "", "reference")]},
        {"inputs": ()},
        {"outputs": ()},
        {"outputs": [("nothing",)]},
    ],
)
async def test_other_calls_do_not_count(changes: dict[str, Any]):
    async with watching() as drifts:
        drifts.observe([ended(1, **changes)])
        assert await items(drifts) == 0


async def test_a_window_is_judged_once_it_has_enough_items():
    async with watching() as drifts:
        for seed in range(20):
            state = await drifts.state("classifier", "1")
            assert (state["drifted"], state["accuracy"]) == (None, None)
            drifts.observe([ended(50, seed)])
        state = await drifts.state("classifier", "1")
        assert state["items"] == 1000
        assert state["drifted"] == []
        assert all(each["distance"] < 0.1 for each in state["features"])
        assert [each["name"] for each in state["features"]] == ["brightness", "sharpness", "label", "confidence"]
        for seed in range(25):
            drifts.observe([ended(50, 100 + seed, brightness=0.7)])
        state = await drifts.state("classifier", "1")
        assert "brightness" in state["drifted"]
        (brightness,) = (each for each in state["features"] if each["name"] == "brightness")
        assert brightness["mean"] == pytest.approx(0.7 * brightness["reference_mean"], rel=0.05)
        assert sum(brightness["window"]) == pytest.approx(1, abs=1e-4)


async def test_drift_is_logged_when_it_begins_and_ends(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    async with watching() as drifts:
        for seed in range(25):
            drifts.observe([ended(50, seed, brightness=0.7)])
        await until(lambda: len(caplog.messages) == 1)
        for seed in range(25):
            drifts.observe([ended(50, seed)])
        await until(lambda: len(caplog.messages) == 2)
        begun, over = caplog.messages
        assert begun.startswith("classifier/1: brightness")
        assert begun.endswith("differ from validation: see /v1/models/classifier/drift")
        assert over.endswith("no longer differ from validation")
        assert drifts.reports["classifier", "1"]["drifted"] == []


async def test_it_saves_its_part_of_the_time(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], thread_time=lambda: now[0]))

    def takes(seconds: float) -> None:
        now[0] += seconds

    async with watching() as drifts:
        watch = drifts._watches["classifier", "1"]
        monkeypatch.setattr(watch, "add", lambda items, rows: takes(0.4))
        drifts.observe([ended(10)])
        drifts.observe([ended(10)])
        assert drifts.tensors  # a burst after a quiet time is counted whole
        drifts.observe([ended(10)])
        assert not drifts.tensors  # 1.2 s used, 1.004 s earned
        now[0] += 20
        drifts.observe([ended(10)])
        assert not drifts.tensors
        now[0] += 30
        drifts.observe([ended(10)])
        assert drifts.tensors
        now[0] += 3600
        for _ in range(3):  # what is saved has a limit
            assert drifts.tensors
            drifts.observe([ended(10)])
        assert not drifts.tensors


async def test_of_a_large_call_a_part_is_counted():
    async with watching() as drifts:
        drifts.observe([ended(40), ended(40)])
        assert await items(drifts) == 64


async def test_several_processes_have_one_window(tmp_path: Path):
    async with watching(Board(tmp_path, 0)) as one, watching(Board(tmp_path, 1)) as two:
        one.observe([ended(4)])
        two.observe([ended(6)])
        async with asyncio.timeout(30):
            while (await items(one), await items(two)) != (10, 10):  # noqa: ASYNC110 - a file of another process
                await asyncio.sleep(0.01)
        one.update([])
        assert await one.state("classifier", "1") is None
        assert await items(two) == 6


async def test_another_version_of_the_same_number_begins_anew():
    async with watching() as drifts:
        drifts.observe([ended(4)])
        drifts.update([version()])
        assert await items(drifts) == 4
        drifts.update([version(manifest=MANIFEST.model_copy(update={"description": "another"}))])
        assert await items(drifts) == 0


async def test_histograms_of_what_the_graph_does_not_answer_are_left_out():
    extra = MANIFEST.histograms[0].model_copy(update={"part": "answer", "name": "unfamiliar"})
    manifest = MANIFEST.model_copy(update={"histograms": (extra, *MANIFEST.histograms[:1])})
    async with watching(_1=manifest) as drifts:
        drifts.observe([ended(4)])
        state = await drifts.state("classifier", "1")
        assert [each["name"] for each in state["features"]] == ["brightness"]
