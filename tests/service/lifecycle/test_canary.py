"""Canaries: which calls count for which version, and that a bad one is withdrawn."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.inference.observers import CallEnded
from service.inference.routing import Served
from service.lifecycle import canary as module
from service.lifecycle.canary import Canaries
from service.policy.policy import Canary, CanaryStep, Policy, Withdraw
from service.processes.board import Board
from service.tasks.cards import FamiliarityCard
from service.tasks.registry import BUILT_IN
from tests.shadowed import MANIFEST, row, until

CARD = FamiliarityCard(method="distance", calibrated_on=1000, test_below={})


class Told:
    """What canaries say."""

    def __init__(self, board: Board | None = None) -> None:
        self.counted: list[Any] = []
        self.withdrawn: list[tuple[str, str]] = []
        self.canaries = Canaries(
            BUILT_IN.tasks, board or Board(), self.counted.append, lambda *said: self.withdrawn.append(said)
        )

    def update(self, *numbers: str, canary: str | None = "2", **limits: Any) -> None:
        self.canaries.update({"classifier": served(*numbers, canary=canary, **limits)})

    async def versions(self) -> dict[str, Any]:
        state = await self.canaries.state("classifier")
        assert state is not None
        return {each["role"]: each for each in state["versions"]}


def served(*numbers: str, canary: str | None = "2", steps: tuple[CanaryStep, ...] = (), **limits: Any) -> Served:
    tried = {"steps": steps} if steps else {"share": 0.25}
    policy = Policy(
        default=numbers[0],
        canary=canary and Canary(version=canary, **tried, withdraw=Withdraw(**{"after": 10, **limits})),
    )
    versions: dict[str, Any] = {number: version(number) for number in numbers}
    return Served("classifier", policy, versions)


def version(number: str) -> Any:
    known = MANIFEST.model_copy(update={"familiarity": CARD})
    made = SimpleNamespace(name="classifier", version=number, label=f"classifier/{number}", manifest=known, aliases=())
    made.withdrawn = None
    made.name_by = lambda _aliases: None
    return made


def ended(number: str, error: str | None = None, p_value: float = 0.5, label: str = "red", **changes: Any) -> CallEnded:
    event = CallEnded(
        labels=[("classifier", number, "", "reference")], owner=None, started=0.0, decode_times=[],
        queue_seconds=0.001, inference_seconds=0.009, error=error,
        outputs=() if error else [(*row(label), np.float32(p_value))], version=version(number),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(event, name, value)
    return event


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_JUDGE_SECONDS", 0.01)


async def test_calls_count_for_the_version_that_answered():
    told = Told()
    told.update("1", "2", "3")
    events = [ended("1"), ended("1", label="blue", p_value=0.001), ended("2", "inference-failed"), ended("2")]
    told.canaries.observe([*events, ended("3"), ended("1", version=None), object()])
    default, canary = (await told.versions())["default"], (await told.versions())["canary"]
    assert (default["version"], default["requests"], default["errors"]) == ("1", 2, 0)
    assert default["labels"] == {"red": 0.5, "blue": 0.5}
    assert default["unfamiliar"] == 0.5
    assert default["latency_ms"]["p50"] == pytest.approx(10, rel=0.05)
    assert (canary["version"], canary["requests"], canary["errors"], canary["error_share"]) == ("2", 2, 1, 0.5)
    assert (await told.canaries.state("classifier"))["share"] == 0.25
    assert {(each.label[1], each.failed, each.unfamiliar) for each in told.counted} == {("1", 0, 1), ("2", 1, 0)}
    told.canaries.close()
    assert await told.canaries.state("classifier") is None


@pytest.mark.parametrize(
    "error", ["undecodable-image", "invalid-request", "body-too-large", "not-ready", "Abandoned", "CancelledError"]
)
async def test_what_is_not_the_versions_fault_does_not_count(error: str):
    told = Told()
    told.update("1", "2")
    told.canaries.observe([ended("2", error)])
    assert (await told.versions())["canary"]["requests"] == 0
    told.canaries.close()


@pytest.mark.parametrize(
    "error", ["inference-failed", "deadline-exceeded", "model-broken", "overloaded", "internal-error", "KeyError"]
)
async def test_what_is_its_fault_counts(error: str):
    told = Told()
    told.update("1", "2")
    told.canaries.observe([ended("2", error)])
    assert (await told.versions())["canary"]["errors"] == 1
    told.canaries.close()


async def test_a_bad_canary_is_withdrawn_until_the_policy_has_it_no_more(caplog: pytest.LogCaptureFixture):
    told = Told()
    told.update("1", "2")
    told.canaries.observe([ended("1") for _ in range(100)] + [ended("2", "inference-failed") for _ in range(10)])
    await until(lambda: len(told.withdrawn) > 2)
    # Later calls do not change why.
    told.canaries.observe([ended("2") for _ in range(1000)])
    count = len(told.withdrawn)
    await until(lambda: len(told.withdrawn) > count + 1)
    assert set(told.withdrawn) == {("classifier", "errors 1.00 against 0.00 after 10 requests")}
    assert caplog.text.count("the canary classifier/2 gets no more calls") == 1
    assert (await told.canaries.state("classifier"))["verdict"] == told.withdrawn[0][1]
    told.update("1", "2", canary=None)
    count = len(told.withdrawn)
    await asyncio.sleep(0.05)
    assert len(told.withdrawn) == count
    told.canaries.close()


async def test_a_canary_proves_itself_with_as_many_calls_as_it_is_judged_by(tmp_path: Path):
    one, two = Told(Board(tmp_path, 0)), Told(Board(tmp_path, 1))
    assert "can be compared" in await one.canaries.waits_for("classifier")
    for told in (one, two):
        told.update("1", "2", after=10, steps=(CanaryStep(share=1),))
    assert await one.canaries.waits_for("classifier") == "10 more calls of the canary"
    assert (await one.canaries.state("classifier"))["waits_for"] == "10 more calls of the canary"
    one.canaries.observe([ended("2")] * 4)
    two.canaries.observe([ended("2")] * 6)
    async with asyncio.timeout(30):
        while await one.canaries.waits_for("classifier") is not None:  # noqa: ASYNC110 - a file of another process
            await asyncio.sleep(0.01)
    assert (await one.canaries.state("classifier"))["waits_for"] is None
    one.canaries.observe([ended("2", "inference-failed")] * 10)
    assert (await one.canaries.waits_for("classifier")).startswith("its withdrawal: errors 0.50")
    one.update("1", "2", after=1000)
    assert (await one.canaries.state("classifier"))["waits_for"] is None  # it has no last step
    for told in (one, two):
        told.canaries.close()


async def test_a_canary_that_breaks_late_is_withdrawn_for_its_last_minutes(monkeypatch: pytest.MonkeyPatch):
    now = [3_000_000.0]
    monkeypatch.setattr("service.lifecycle.canary.time.time", lambda: now[0])
    told = Told()
    told.update("1", "2")
    for role in ("1", "2"):
        told.canaries.observe([ended(role) for _ in range(20_000)])
    now[0] += 3600
    told.canaries.observe([ended("1") for _ in range(100)] + [ended("2", "inference-failed") for _ in range(20)])
    await until(lambda: told.withdrawn)
    assert told.withdrawn[0][1] == "errors 1.00 against 0.00 after 20 requests"
    assert set(told.canaries._watches["classifier"].sides["canary"].recent) == {now[0] // 300}
    told.canaries.close()


async def test_figures_begin_anew_with_another_version_and_stay_with_a_repeated_policy():
    told = Told()
    told.update("1", "2", "3")
    told.canaries.observe([ended("1"), ended("2")])
    told.update("1", "2", "3", errors=0.5)
    assert (await told.versions())["canary"]["requests"] == 1
    told.update("1", "2", "3", canary="3")
    assert (await told.versions())["canary"]["requests"] == (await told.versions())["default"]["requests"] == 0
    told.update("1", "2", canary=None)
    assert await told.canaries.state("classifier") is None
    told.update("1", "2")
    told.canaries.update({})
    assert await told.canaries.state("classifier") is None
    told.canaries.close()


async def test_processes_judge_by_the_figures_of_all(tmp_path: Path):
    one, two = Told(Board(tmp_path, 0)), Told(Board(tmp_path, 1))
    for told in (one, two):
        told.update("1", "2", after=12)
        told.canaries.observe([ended("1") for _ in range(50)] + [ended("2", "inference-failed") for _ in range(6)])
    await until(lambda: one.withdrawn and two.withdrawn)
    assert one.withdrawn[:1] == [("classifier", "errors 1.00 against 0.00 after 12 requests")]
    assert (await two.versions())["canary"]["requests"] == 12
    for told in (one, two):
        told.canaries.close()


async def test_answers_of_any_kind_are_counted():
    told = Told()
    told.update("1", "2")
    told.canaries.observe([ended("2", outputs=[()]), ended("2", outputs=[("text",)] * 100), ended("2", outputs=())])
    assert (await told.versions())["canary"]["requests"] == 3
    assert (await told.versions())["canary"]["labels"] == {}
    told.canaries.close()


async def test_a_task_without_a_measure_is_judged_by_its_errors():
    told = Told()
    told.canaries._tasks = {"classification": SimpleNamespace(agreement=None)}
    told.update("1", "2")
    told.canaries.observe([ended("2")])
    assert (await told.versions())["canary"]["requests"] == 1
    assert (await told.versions())["canary"]["unfamiliar"] is None
    told.canaries.close()
