"""Which version answers a call."""

import datetime
import time
from collections.abc import Callable
from typing import Any

import pytest

from service.inference.routing import Served
from service.policy.policy import Canary, Policy


class Loaded:
    """A version without a session."""

    def __init__(self, number: str) -> None:
        self.version = number
        self.label = f"m/{number}"
        self.withdrawn: Canary | None = None
        self.aliases: tuple[str, ...] = ()

    def name_by(self, aliases: tuple[str, ...]) -> None:
        self.aliases = aliases


def served(*numbers: str, **policy: Any) -> Served:
    return Served("m", Policy.model_validate(policy), {number: Loaded(number) for number in numbers})


def at(position: float) -> Callable[[str | None, str], float]:
    return lambda *_: position


@pytest.mark.parametrize(
    ("wanted", "version", "alias"),
    [
        (None, "1", "stable"), ("stable", "1", "stable"), ("candidate", "2", "candidate"), ("2", "2", "candidate"),
        ("latest", "3", None), ("3", "3", None), ("4", None, None), ("none", None, None), ("../1", None, None),
    ],
)  # fmt: skip
def test_by_number_and_by_alias(wanted: str | None, version: str | None, alias: str | None):
    model = served("1", "2", "3", load=3, default="stable", aliases={"stable": "1", "candidate": "2"})
    route = model.route(wanted, at(0))
    assert (route and (route.version.version, route.alias)) == (version and (version, alias))
    assert model.loaded["1"].aliases == ("stable",)


def test_the_default_falls_back_to_the_previous_version_and_another_alias_does_not():
    model = served("1", default="stable", previous="1", aliases={"stable": "2", "candidate": "3"})
    assert model.route(None, at(0)).version.version == "1"
    assert model.route("stable", at(0)).version.version == "1"
    assert model.route("candidate", at(0)) is None
    assert model.route("2", at(0)) is None
    model = served("1", default="2", previous="1", aliases={"stable": "2", "candidate": "3"})
    assert model.route("stable", at(0)).version.version == "1"
    assert model.route("candidate", at(0)) is None
    assert model.route("2", at(0)) is None


def test_without_a_default_nothing_answers():
    model = served("3", load=["1"], default="stable", aliases={"stable": "2", "old": "3"})
    assert model.route(None, at(0)) is None
    assert model.route("stable", at(0)) is None
    assert model.route("old", at(0)).version.version == "3"


def test_a_canary_answers_its_share():
    model = served("1", "2", default="1", canary={"version": "2", "share": 0.25})
    assert [model.route(None, at(position)).version.version for position in (0, 0.24, 0.25, 0.99)] == [
        "2",
        "2",
        "1",
        "1",
    ]
    assert model.route("1", at(0)).version.version == "1"
    assert (model.share(model.loaded["1"]), model.share(model.loaded["2"])) == (0.75, 0.25)
    assert all(model.route(wanted, at(0.9)).watched for wanted in (None, "1", "2"))


def test_the_steps_of_a_canary_are_followed():
    began = datetime.datetime.fromtimestamp(time.time() - 90, datetime.UTC)
    steps = [{"share": 0.1, "minutes": 1}, {"share": 0.5, "minutes": 1}, {"share": 1, "minutes": 1}]
    model = served("1", "2", default="1", canary={"version": "2", "steps": steps, "started": began})
    assert model.share(model.loaded["2"]) == 0.5


def test_a_canary_that_is_not_loaded_answers_nothing():
    model = served("1", default="1", canary={"version": "2", "share": 1.0})
    assert model.route(None, at(0)).version.version == "1"
    assert model.share(model.loaded["1"]) == 1


def test_a_policy_without_a_canary_asks_for_no_position():
    def position(*_: str | None) -> float:
        raise AssertionError

    assert served("1").route(None, position).version.version == "1"


def test_the_header_that_decides():
    asked = []
    model = served("1", "2", default="1", canary={"version": "2", "share": 0.5, "sticky": "X-User"})
    model.route(None, lambda *given: asked.append(given) or 0.9)
    assert asked == [("X-User", "m/2")]


def test_a_canary_that_this_process_has_ended_gets_no_calls_until_the_policy_has_another():
    model = served("1", "2", default="1", canary={"version": "2", "share": 0.5})
    model.canary.withdrawn = model.policy.canary
    assert model.route(None, at(0)).version.version == "1"
    assert [model.share(version) for version in model.loaded.values()] == [1, 0]
    again = Served("m", Policy(default="1", canary=Canary(version="2", share=0.6)), model.loaded)
    assert again.route(None, at(0)).version.version == "2"


def test_a_shadow_gets_calls_of_the_default_version():
    model = served("1", "2", "3", load=3, default="1", shadow={"version": "2"})
    assert model.route(None, at(0)).shadow is model.loaded["2"]
    assert model.route("1", at(0)).shadow is model.loaded["2"]
    assert model.route("3", at(0)) == (model.loaded["3"], None, False, None)
    assert model.route("2", at(0)).shadow is None


def test_a_shadow_gets_its_share():
    model = served("1", "2", default="1", shadow={"version": "2", "share": 0.3})
    copied = sum(model.route(None, at(0)).shadow is not None for _ in range(2000))
    assert 400 < copied < 800
