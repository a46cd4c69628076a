"""What operators do to a policy."""

import pytest

from service.policy.changes import (
    Unchangeable,
    clear_alias,
    load,
    pin,
    promote,
    promote_if,
    rollback,
    set_alias,
    set_canary,
    set_shadow,
    unload,
)
from service.policy.policy import Canary, Policy, Promotion, Shadow

CANARY, SHADOW = Canary(version="2", share=0.1), Shadow(version="2")


def test_a_promotion_and_the_way_back():
    promoted = promote(Policy(default="1", canary=CANARY), "2", "1")
    assert promoted == Policy(default="2", previous="1")
    back = rollback(promoted, "2", None, ["1", "2"])
    assert back == Policy(default="1", previous="2")
    assert rollback(back, "1", None, ["1", "2"]) == promoted


def test_the_alias_of_the_default_moves_along():
    policy = Policy(default="stable", aliases={"stable": "1", "candidate": "2"}, shadow=Shadow(version="candidate"))
    promoted = promote(policy, "candidate", "1")
    assert promoted == Policy(default="stable", aliases={"stable": "2", "candidate": "2"}, previous="1")
    assert rollback(promoted, "2", None, ["1", "2"]).aliases == {"stable": "1", "candidate": "2"}


def test_another_trial_goes_on():
    policy = Policy(default="1", canary=Canary(version="3", share=0.1), shadow=SHADOW)
    promoted = promote(policy, "2", "1")
    assert (promoted.canary, promoted.shadow) == (policy.canary, None)
    assert rollback(policy.model_copy(update={"previous": "4"}), "1", None, []).canary is None


def test_a_rollback_without_a_previous_version_takes_the_one_below():
    assert rollback(Policy(), "10", None, ["1", "9", "10", "11"]) == Policy(default="9", previous="10")
    assert rollback(Policy(), "10", "1", ["1", "9", "10", "11"]) == Policy(default="1", previous="10")
    assert rollback(Policy(default="10", previous="9"), "10", "1", []) == Policy(default="9", previous="10")
    for default, found in (("1", ["1", "2"]), (None, ["1"])):
        with pytest.raises(Unchangeable, match="no previous version"):
            rollback(Policy(), default, None, found)


@pytest.mark.parametrize("previous", ["1", None])
def test_a_rollback_from_a_version_that_cannot_answer(previous: str | None):
    policy = Policy(default="stable", previous=previous, aliases={"stable": "2"})
    back = rollback(policy, "1", None, ["1", "2"])  # which answers in its place
    assert back == Policy(default="stable", aliases={"stable": "1"})
    assert rollback(policy, None, None, ["1", "2"]) == back
    with pytest.raises(Unchangeable, match="no previous version"):
        rollback(back, "1", None, ["1", "2"])


def test_promoting_the_default_keeps_the_previous_one():
    assert promote(Policy(default="2", previous="1"), "2", "2") == Policy(default="2", previous="1")


def test_a_pin_is_a_number():
    policy = Policy(default="stable", aliases={"stable": "1"})
    assert pin(policy, None, "1") == Policy(default="1", aliases={"stable": "1"})
    assert pin(policy, "3", "1") == Policy(default="3", aliases={"stable": "1"}, previous="1")
    assert pin(Policy(), None, "7") == Policy(default="7")
    with pytest.raises(Unchangeable, match="No version answers"):
        pin(Policy(), None, None)


def test_a_trial_fixes_the_default():
    assert set_canary(Policy(), CANARY, "1") == Policy(default="1", canary=CANARY)
    assert set_shadow(Policy(), SHADOW, "1") == Policy(default="1", shadow=SHADOW)
    assert set_canary(Policy(default="1", canary=CANARY), None, None) == Policy(default="1")
    with pytest.raises(Unchangeable, match="is the default already"):
        set_shadow(Policy(), SHADOW, "2")
    with pytest.raises(Unchangeable, match="neither a version nor an alias"):
        set_shadow(Policy(), Shadow(version="candidate"), "1")


def test_a_promotion_on_a_condition():
    condition = Promotion(agreement=0.98, after=100)
    assert promote_if(Policy(), "2", condition, "1").shadow == Shadow(version="2", promote=condition)
    running = Policy(default="1", shadow=Shadow(version="2", share=0.5))
    assert promote_if(running, "2", condition, "1").shadow == Shadow(version="2", share=0.5, promote=condition)


def test_loading_and_unloading():
    assert load(Policy(), "1", ["3"], "3") == Policy(load=("3", "1"), default="3")
    assert load(Policy(), "4", ["3"], "3") == Policy(load=("4", "3"), default="3")
    assert load(Policy(), "4", ["3"], None) == Policy(load=("4", "3"))
    assert load(Policy(default="3"), "4", ["3"], "3") == Policy(load=("4", "3"), default="3")
    assert load(Policy(), "3", ["3"], "3") == Policy()
    # Just unloaded, and not closed yet.
    assert load(Policy(load=("3",), default="3"), "4", ["4", "3"], "3") == Policy(load=("4", "3"), default="3")
    assert load(Policy(load=("3",), default="3"), "3", ["4", "3"], "3") == Policy(load=("3",), default="3")
    assert unload(Policy(load=3), "1", ["3", "2", "1"], "3") == Policy(load=("3", "2"))
    assert unload(Policy(default="3", previous="2"), "2", ["3", "2"], "3") == Policy(load=("3",), default="3")
    assert unload(Policy(load=("3", "7")), "7", ["3"], "3") == Policy(load=("3",))
    assert unload(Policy(default="3", previous="7"), "7", ["3"], "3") == Policy(load=("3",), default="3")
    with pytest.raises(Unchangeable, match="Version 9 is not loaded"):
        unload(Policy(), "9", ["3"], "3")
    with pytest.raises(Unchangeable, match="answers by default"):
        unload(Policy(), "3", ["3"], "3")
    with pytest.raises(Unchangeable, match="used by the alias next, canary"):
        unload(Policy(default="1", aliases={"next": "2"}, canary=CANARY), "next", ["1", "2"], "1")


def test_aliases():
    policy = set_alias(Policy(), "stable", "1")
    assert policy.aliases == {"stable": "1"}
    assert set_alias(policy, "old", "stable").aliases == {"stable": "1", "old": "1"}
    assert clear_alias(policy, "stable") == Policy()
    with pytest.raises(Unchangeable, match="There is no alias"):
        clear_alias(policy, "other")
    with pytest.raises(Unchangeable, match="cannot be an alias"):
        set_alias(policy, "latest", "1")
    with pytest.raises(Unchangeable, match="neither a version nor an alias"):
        clear_alias(Policy(default="stable", aliases={"stable": "1"}), "stable")
