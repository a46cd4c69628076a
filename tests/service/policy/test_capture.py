"""What a policy may say of captures, and what it is told if it says something else."""

import pytest

from service.policy.file import InvalidPolicy, parse_policy


def test_strategies_have_limits_and_an_order():
    policy = parse_policy(
        b"""
        feedback = true
        [capture]
        max_mb = 5
        [capture.untypical]
        below = 0.05
        hourly = 7
        [capture.random]
        share = 0.1
        [capture.disagreement]
        """
    )
    assert policy.capture is not None
    assert list(policy.capture.strategies) == ["random", "untypical", "disagreement"]
    assert policy.capture.untypical is not None
    assert (policy.capture.untypical.hourly, policy.capture.untypical.daily) == (7, 1000)
    assert (policy.capture.max_mb, policy.capture.days, policy.feedback) == (5, 30, True)
    assert parse_policy(b"").capture is None


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[capture]\nmax_mb = 5", "line 1: capture: nothing says which items are kept: add one of [capture.random]"),
        ("[capture.random]\nshare = 0", "line 2: capture.random.share: Input should be greater than 0"),
        ("[capture.random]\nshare = 0.1\nhourly = 0", "line 3: capture.random.hourly"),
        ("[capture.random]\nshare = nan", "line 2: capture.random.share"),
        ("[capture.labels]\nany = []", "line 2: capture.labels.any"),
        ("[capture.detections]\nleast = 3\nmost = 2", "capture.detections: least = 3 is above most = 2"),
        ("[capture.detections]", "capture.detections: set least, most or both"),
        ("[capture.randon]\nshare = 1", "capture.randon: there is no such key"),
        ("[capture.random]\nshare = 1\n[capture]\nmax_mb = inf", "capture.max_mb"),
        ("feedback = 1", "line 1: feedback"),
    ],
)
def test_a_mistake_is_named_with_its_line(toml: str, words: str):
    with pytest.raises(InvalidPolicy) as error:
        parse_policy(toml.encode())
    assert words in str(error.value)
