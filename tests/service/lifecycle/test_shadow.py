"""Shadows: what candidates are given and what is counted, and that they cost calls nothing."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.inference.observers import BatchRan
from service.inference.routing import Served
from service.lifecycle import shadow as module
from service.lifecycle import trial as trial_module
from service.lifecycle.load import Load
from service.policy.policy import Policy, Promotion, Shadow
from service.processes.board import Board
from service.tasks.agreement import Incomparable, check_comparable
from tests.gated import Gated
from tests.shadowed import MANIFEST, failing, right, row, stage, until
from tests.tiny import LABELS


def wrong_about_blue(items: list[Any]) -> list[Any]:
    return [row("red", 0.8) if answer[0].argmax() == LABELS.index("blue") else answer for answer in right(items)]


async def test_answers_are_compared_and_counted():
    async with stage(wrong_about_blue) as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(9), made.ended(3)])
        assert await made.settled() == {"compared": 12, "agreed": 8, "failed": 0, "dropped": 0}
        assert {(event.model, event.version, event.candidate) for event in made.told} == {("classifier", "1", "2")}
        state = await made.shadows.state("classifier")
        assert (state["version"], state["against"], state["compared"]) == ("2", "1", 12)
        assert state["agreement"]["value"] == pytest.approx(8 / 12)
        assert state["measure"].startswith("the same most likely label")
        classes = {each["label"]: each["agreement"] for each in state["classes"]}
        assert classes == {"red": 1, "green": 1, "blue": 0}
        assert state["verdict"] is None
        assert made.lender.leases == 0


async def test_the_examples_are_the_inputs_that_differ_most(monkeypatch: pytest.MonkeyPatch):
    async with stage(wrong_about_blue) as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(3)])
        await made.settled()
        (example,) = (await made.shadows.state("classifier"))["examples"]
        assert (example["label"], example["media_type"]) == ("blue", "image/png")
        assert example["answer"]["labels"][0]["label"] == "blue"
        assert example["candidate"]["labels"][0]["label"] == "red"
        sample = await made.shadows.sample("classifier", example["id"])
        assert sample.media_type == "image/png"
        assert sample.data.startswith(b"\x89PNG")
        for unknown in ("0-1", "../../etc/passwd", "0-", "1", example["id"] + "0", "９-1"):
            assert await made.shadows.sample("classifier", unknown) is None
        assert await made.shadows.sample("other", example["id"]) is None
        read = []
        monkeypatch.setattr(made.board, "attachment", lambda *asked: read.append(asked))
        assert (await made.shadows.state("classifier", with_examples=False))["examples"] == []
        assert read == []


async def test_calls_of_other_versions_are_not_compared():
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        third = SimpleNamespace(name="classifier", version="3")
        made.shadows.observe([made.ended(number="2"), made.ended(shadow=third), made.ended(shadow=None)])
        assert await made.settled() == {"compared": 0, "agreed": 0, "failed": 0, "dropped": 0}
        made.shadows.leave("classifier")
        made.shadows.observe([made.ended()])
        assert (await made.settled())["compared"] == 0
        assert await made.shadows.state("classifier") is None


async def test_a_candidate_that_fails_on_everything_only_counts(monkeypatch, caplog):
    monkeypatch.setattr(module, "_FAILING_SECONDS", 0.01)
    async with stage(failing) as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(30)])
        assert await made.settled() == {"compared": 0, "agreed": 0, "failed": 30, "dropped": 0}
        assert made.lender.leases == 0
        assert caplog.text.count("the shadow classifier/2 failed on an input") == 1
        state = await made.shadows.state("classifier")
        assert (state["failed"], state["agreement"]) == (30, None)


async def test_a_candidate_that_always_fails_gets_one_input_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "_FAILING_SECONDS", 1000)
    async with stage(failing) as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(60)])
        await until(lambda: made.counts()["failed"] >= 10)
        await asyncio.sleep(0.05)
        assert made.counts()["failed"] < 30
        assert len(made.shadows._trials["classifier"]) > 0


async def test_an_input_that_fails_leaves_the_others_of_its_batch_alone():
    def picky(items: list[Any]) -> list[Any]:
        if any(answer[0].argmax() == 0 for answer in right(items)):
            raise RuntimeError("no red")
        return right(items)

    async with stage(picky) as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(12)])
        assert await made.settled() == {"compared": 8, "agreed": 8, "failed": 4, "dropped": 0}


@pytest.mark.parametrize(
    "answer",
    [(np.full(3, np.nan, np.float32),), (np.zeros(7, np.float32),), (), ("text",)],
    ids=["nan", "shape", "empty", "type"],
)
async def test_an_answer_that_is_none_counts_as_failed(answer):
    async with stage(lambda items: [answer for _ in items]) as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(2)])
        assert await made.settled() == {"compared": 0, "agreed": 0, "failed": 2, "dropped": 0}


async def test_what_exceeds_the_buffer_is_dropped(monkeypatch):
    monkeypatch.setattr(trial_module, "_MOST_ITEMS", 10)
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(8), made.ended(8)])
        made.shadows.observe([made.ended(8)])
        assert [event.dropped for event in made.told] == [6, 8]
        assert await made.settled() == {"compared": 10, "agreed": 10, "failed": 0, "dropped": 14}


async def test_the_buffer_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(trial_module, "_MOST_BYTES", 3 * (8 * 8 * 3 + 12))
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(5)])
        assert await made.settled() == {"compared": 3, "agreed": 3, "failed": 0, "dropped": 2}


async def test_a_row_in_the_buffer_keeps_no_batch_alive():
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        outputs = [(part,) for part in np.zeros((64, 3), np.float32)]
        event = made.ended(1, outputs=outputs[:1])
        made.shadows.observe([event])
        (((item, (kept,), *_), _),) = made.shadows._trials["classifier"]._waiting
        assert kept.base is None
        assert item is event.inputs[0]


async def test_a_candidate_that_is_unloaded_empties_its_buffer():
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(20)])
        version = made.lender.versions.pop("2")
        assert (await made.settled())["dropped"] == 20
        assert len(made.shadows._trials["classifier"]) == 0
        made.lender.versions["2"] = version
        made.shadows.observe([made.ended(2)])
        assert (await made.settled())["compared"] == 2


async def test_a_candidate_without_room_is_given_less(monkeypatch):
    monkeypatch.setattr(module, "_FAILING_SECONDS", 0.01)
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        made.candidate.batcher.admission.closed = True
        made.shadows.observe([made.ended(2)])
        assert await made.settled() == {"compared": 0, "agreed": 0, "failed": 0, "dropped": 2}
        made.candidate.batcher.admission.closed = False


async def test_figures_begin_anew_with_another_version_and_survive_a_repeated_policy():
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(3)])
        await made.settled()
        made.shadows.follow(made.default, made.candidate, Promotion(agreement=0.9, after=100))
        assert (await made.shadows.state("classifier"))["compared"] == 3
        third = made.add("3", right)
        made.shadows.follow(made.default, third)
        state = await made.shadows.state("classifier")
        assert (state["version"], state["compared"], state["examples"]) == ("3", 0, [])


async def test_versions_that_cannot_be_compared_are_shown_as_such(caplog):
    async with stage() as made:
        other = made.add("3", right, labels=("x", "y", "z"))
        made.shadows.follow(made.default, other)
        assert "classifier/3 is no shadow of classifier/1" in caplog.text
        state = await made.shadows.state("classifier")
        assert (state["version"], state["compared"]) == ("3", 0)
        assert "no label in common" in state["verdict"]
        made.shadows.observe([made.ended(shadow=other)])
        made.shadows.follow(made.default, made.candidate)
        assert (await made.shadows.state("classifier"))["verdict"] is None
        with pytest.raises(Incomparable):
            check_comparable(made.shadows._tasks["classification"], MANIFEST, other.manifest)


@pytest.mark.parametrize(("agreement", "promote"), [(0.6, True), (0.7, False)])
async def test_a_goal_is_decided_once_it_is_reached(monkeypatch, agreement, promote):
    monkeypatch.setattr(module, "_JUDGE_SECONDS", 0.01)
    async with stage(wrong_about_blue) as made:
        made.shadows.follow(made.default, made.candidate, Promotion(agreement=agreement, after=12))
        made.shadows.observe([made.ended(12)])
        await made.settled()
        await until(lambda: made.decided)
        await until(lambda: len(made.decided) > 2)  # until the policy has no such shadow any more
        ((model, decided, why),) = set(made.decided)
        assert (model, decided) == ("classifier", promote)
        assert "8 of 12 inputs agree" in why
        assert (await made.shadows.state("classifier"))["verdict"] == why


async def test_nothing_is_decided_before(monkeypatch):
    monkeypatch.setattr(module, "_JUDGE_SECONDS", 0.01)
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate, Promotion(agreement=0.9, after=13))
        made.shadows.observe([made.ended(12)])
        await made.settled()
        await asyncio.sleep(0.05)
        assert made.decided == []


async def test_processes_decide_by_the_figures_of_all(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(module, "_JUDGE_SECONDS", 0.02)
    async with (
        stage(wrong_about_blue, Board(tmp_path, 0)) as one,
        stage(wrong_about_blue, Board(tmp_path, 1)) as two,
    ):
        for made in (one, two):
            made.shadows.follow(made.default, made.candidate, Promotion(agreement=0.6, after=12))
            made.shadows.observe([made.ended(6)])
            await made.settled()
        await until(lambda: one.decided and two.decided)
        assert one.decided[0][1]
        states = [await made.shadows.state("classifier") for made in (one, two)]
        assert [state["compared"] for state in states] == [12, 12]
        assert len(states[0]["examples"]) == 4
        assert {each["id"].partition("-")[0] for each in states[0]["examples"]} == {"0", "1"}
        for each in states[0]["examples"]:
            assert await one.shadows.sample("classifier", each["id"]) is not None
        two.shadows.leave("classifier")
        assert (await one.shadows.state("classifier"))["compared"] == 6


async def test_on_a_busy_device_batches_are_small_and_pauses_long(monkeypatch):
    slept = []
    sleep = asyncio.sleep

    async def note(seconds, *rest):
        if asyncio.current_task() is not made.shadows._judging:
            slept.append(seconds)
        await sleep(0)

    async with stage() as made:
        monkeypatch.setattr(module.asyncio, "sleep", note)
        made.shadows.follow(made.default, made.candidate)
        made.candidate.batcher.flow.seconds_per_item = 0.001
        made.shadows.observe([BatchRan(("classifier", "1", "", ""), [0.0], 1.0, 0.5), made.ended(4)])
        trial = made.shadows._trials["classifier"]
        assert made.shadows._room(trial, made.candidate, busy=True) == 2
        assert made.shadows._room(trial, made.candidate, busy=False) == 8
        await made.settled()
        assert len(slept) >= 2
        assert min(slept) > 0
        # What the candidate itself does is no load.
        made.shadows._load = Load()
        made.shadows.observe([BatchRan(("classifier", "2", "", ""), [0.0], 1.0, 0.5)])
        assert not made.shadows._load.busy
        slept.clear()
        made.shadows.observe([made.ended(4)])
        await made.settled()
        assert set(slept) == {0}


async def test_closing_ends_what_runs():
    gated = Gated()
    async with stage(gated) as made:
        made.shadows.follow(made.default, made.candidate)
        made.shadows.observe([made.ended(3)])
        await gated.entered()
        await made.shadows.close()
        assert made.lender.leases == 0
        gated.release(100)


async def test_an_error_in_one_shadow_pauses_it_alone(monkeypatch, caplog):
    monkeypatch.setattr(module, "_FAILING_SECONDS", 0.01)
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        monkeypatch.setattr(made.shadows, "_room", lambda *_: 1 / 0)
        made.shadows.observe([made.ended(1)])
        await asyncio.sleep(0.05)
        monkeypatch.undo()
        assert "the shadow classifier/2 is paused" in caplog.text
        assert (await made.settled())["compared"] == 1


async def test_the_policies_in_force_say_what_is_compared():
    async with stage() as made:
        policy = Policy(default="1", shadow=Shadow(version="2", promote=Promotion(agreement=0.5, after=3)))
        loaded = {"1": made.default, "2": made.candidate}
        for each in loaded.values():
            each.name_by, each.aliases = lambda _aliases: None, ()
        made.shadows.update({"classifier": Served("classifier", policy, loaded)})
        made.shadows.observe([made.ended(3)])
        await made.settled()
        assert (await made.shadows.state("classifier"))["compared"] == 3
        made.shadows.update({"classifier": Served("classifier", policy, loaded)})
        assert (await made.shadows.state("classifier"))["compared"] == 3
        made.shadows.update({"classifier": Served("classifier", policy, {"1": made.default})})
        assert await made.shadows.state("classifier") is None
        made.shadows.update({"classifier": Served("classifier", policy, loaded)})
        made.shadows.update({})
        assert await made.shadows.state("classifier") is None


async def test_a_slow_candidate_leaves_others_their_share():
    async with stage() as made:
        made.shadows.follow(made.default, made.candidate)
        other = SimpleNamespace(**{**vars(made.default), "name": "slow", "label": "slow/1"})
        made.shadows.follow(other, SimpleNamespace(**{**vars(made.candidate), "name": "slow"}))
        ran = []

        async def batch(trial: Any) -> tuple[bool, float]:
            ran.append(trial.model)
            trial.take(1)
            return False, {"slow": 1.0, "classifier": 0.1}[trial.model]

        made.shadows._batch = batch
        event = made.ended(12)
        made.shadows.observe(
            [event, made.ended(4, labels=[("slow", "1", "", "")], shadow=SimpleNamespace(name="slow", version="2"))]
        )
        await made.settled()
        # After the first of the slow ones, ten of the others.
        assert 8 <= ran.index("slow", ran.index("slow") + 1) - ran.index("slow") <= 12
