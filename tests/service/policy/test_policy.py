"""Which versions a policy loads, and which of them answers."""

import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from service.policy.policy import Canary, CanaryStep, Policy, Shadow

NOON = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)


def canary(**fields: object) -> Canary:
    return Canary.model_validate({"version": "2", "started": NOON, **fields})


@pytest.mark.parametrize(
    ("policy", "candidates", "named"),
    [
        ({}, ["10", "9", "1"], []),
        ({"load": 2}, ["10", "9", "1"], []),
        ({"load": ["1", 9]}, ["1", "9"], []),
        ({"default": "9"}, ["10", "9", "1"], ["9"]),
        (
            {"default": "stable", "aliases": {"stable": 1, "next": 10}, "previous": 9},
            ["10", "9", "1"],
            ["1", "9", "10"],
        ),
        ({"canary": {"version": "10", "share": 0.5}}, ["9", "1"], ["10"]),
        ({"shadow": {"version": "10"}}, ["9", "1"], ["10"]),
    ],
)
def test_what_is_loaded(policy: dict, candidates: list[str], named: list[str]):
    policy = Policy.model_validate(policy)
    assert policy.candidates(["1", "10", "9"])[0] == candidates
    assert policy.named == named


@pytest.mark.parametrize(
    ("policy", "loaded", "default"),
    [
        ({}, ["1", "10", "9"], "10"),
        ({}, [], None),
        ({"canary": {"version": "10", "share": 0.5}}, ["1", "10", "9"], "9"),
        ({"shadow": {"version": "10"}}, ["10"], None),
        ({"default": "9"}, ["1", "9"], "9"),
        ({"default": "9", "previous": "1"}, ["10", "1"], "1"),
        ({"default": "9", "previous": "1"}, ["10"], "10"),
        ({"default": "9", "load": ["1"], "aliases": {"old": "3"}}, ["3"], None),
        ({"default": "stable", "aliases": {"stable": "9"}}, ["9", "10"], "9"),
    ],
)
def test_the_default(policy: dict, loaded: list[str], default: str | None):
    assert Policy.model_validate(policy).default_of(loaded) == default


@pytest.mark.parametrize(
    ("minutes", "step", "share", "done"),
    [(0, 0, 0.05, False), (9.9, 0, 0.05, False), (10, 1, 0.25, False), (40, 2, 1.0, False), (50, 2, 1.0, True)],
)
def test_the_steps_of_a_canary(minutes: float, step: int, share: float, done: bool):
    steps = [{"share": 0.05, "minutes": 10}, {"share": 0.25, "minutes": 30}, {"share": 1, "minutes": 10}]
    stage = canary(steps=steps).stage(NOON.timestamp() + 60 * minutes)
    assert (stage.step, stage.share, stage.done) == (step, share, done)


def test_a_last_step_without_a_duration():
    late = NOON.timestamp() + 1e9
    assert canary(steps=[{"share": 0.1, "minutes": 1}, {"share": 1}]).stage(late).done
    assert canary(steps=[{"share": 0.1, "minutes": 1}, {"share": 0.5}]).stage(late)[1:] == (0.5, None, False)
    assert canary(share=0.1).stage(late)[1:] == (0.1, None, False)
    assert not canary(share=1.0).stage(late).done


@pytest.mark.parametrize(
    "policy",
    [
        {"load": 0}, {"load": []}, {"load": "all"}, {"load": ["one"]}, {"load": True},
        {"default": "stable"}, {"default": "1", "shadow": {"version": "1"}},
        {"aliases": {"latest": "1"}}, {"aliases": {"Stable": "1"}}, {"aliases": {"1": "1"}}, {"aliases": {"a/b": "1"}},
        {"aliases": {"a": "b"}}, {"canary": {"version": "2"}}, {"canary": {"version": "2", "share": 0}},
        {"canary": {"version": "2", "share": 1.1}}, {"canary": {"version": "2", "share": float("nan")}},
        {"canary": {"version": "next", "share": 0.1}}, {"canary": {"version": "2", "steps": [{"share": 0.1}] * 2}},
        {"canary": {"version": "2", "share": 0.1, "sticky": "X User"}},
        {"canary": {"version": "2", "share": 0.1, "started": "2026-11-30T12:00:00"}},
        {"shadow": {"version": "2", "promote": {"agreement": 0.9, "after": 0}}}, {"lod": 2},
    ],
)  # fmt: skip
def test_what_is_no_policy(policy: dict):
    with pytest.raises(ValidationError):
        Policy.model_validate(policy)


def test_those_on_trial():
    policy = Policy(
        aliases={"next": "3"}, canary=Canary(version="next", steps=(CanaryStep(share=1),)), shadow=Shadow(version="4")
    )
    assert policy.on_trial == {"3", "4"}


@pytest.mark.parametrize(
    ("before", "after", "needed"),
    [
        ({}, {"default": "1"}, {"1"}),
        ({"default": "2"}, {"default": "1", "previous": "2"}, {"1", "2"}),
        ({"aliases": {"next": "3"}}, {"aliases": {"next": "3"}, "default": "1"}, {"1"}),
        ({"aliases": {"next": "3"}}, {"aliases": {"next": "3"}, "default": "next"}, {"3"}),
        ({"aliases": {"next": "3"}}, {"aliases": {"next": "3", "other": "3"}}, {"3"}),
        ({"aliases": {"next": "3"}}, {"aliases": {"next": "3"}, "load": ("3", "2")}, {"2", "3"}),
        ({"load": ("3", "2")}, {"load": ("2",)}, set()),
        ({"default": "1", "shadow": Shadow(version="2")}, {"default": "1"}, set()),
        (
            {"default": "1", "shadow": Shadow(version="2")},
            {"default": "1", "canary": Canary(version="2", share=1)},
            {"2"},
        ),
    ],
)
def test_versions_with_a_new_role_are_needed(before: dict[str, Any], after: dict[str, Any], needed: set[str]):
    assert Policy(**after).needed_after(Policy(**before)) == needed
