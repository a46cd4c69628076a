"""Which items strategies keep, given their answers."""

import time

import pytest

from service.capture.strategies import Chooser, never_match
from service.policy.capture import Capture
from service.tasks.classification.manifest import ClassifierManifest
from tests.tiny import manifest

CAT = {"labels": [{"label": "cat", "probability": 0.62}, {"label": "dog", "probability": 0.38}], "typicality": 0.03}
BOXES = {"boxes": [{"label": "RBC", "score": 0.9}, {"label": "WBC", "score": 0.45}]}
NUMBER = {"value": 3.5}
WITHHELD = {"labels": [], "typicality": 0.001}


def choose(answer: dict, **strategies: dict) -> str | None:
    return Chooser(Capture.model_validate(strategies)).choose(answer)


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ({"untypical": {"below": 0.05}}, [CAT, WITHHELD]),
        ({"untypical": {"below": 0.01}}, [WITHHELD]),
        ({"confidence": {"near": 0.5}}, [BOXES]),
        ({"confidence": {"near": 0.5, "within": 0.2}}, [CAT, BOXES]),
        ({"labels": {"any": ["cat", "WBC"]}}, [CAT, BOXES]),
        ({"labels": {"any": ["dog"]}}, []),
        ({"detections": {"most": 1}}, []),
        ({"detections": {"least": 2}}, [BOXES]),
        ({"random": {"share": 1}}, [CAT, BOXES, NUMBER, WITHHELD]),
        ({"random": {"share": 1e-12}}, []),
        ({"disagreement": {}}, []),
    ],
)
def test_what_is_kept(strategy: dict, wanted: list[dict]):
    assert [answer for answer in (CAT, BOXES, NUMBER, WITHHELD) if choose(answer, **strategy)] == wanted


def test_the_random_sample_comes_first():
    both = {"labels": {"any": ["cat"]}, "random": {"share": 1}}
    assert choose(CAT, **both) == "random"


def test_a_share_is_a_share():
    chooser = Chooser(Capture.model_validate({"random": {"share": 0.25}}))
    assert 2200 < sum(chooser.choose(CAT) is not None for _ in range(10_000)) < 2800


def test_a_closed_strategy_leaves_items_to_the_others():
    chooser = Chooser(Capture.model_validate({"labels": {"any": ["cat"]}, "random": {"share": 1}}))
    chooser.close("random", time.time() + 60)
    assert chooser.choose(CAT) == "labels"
    chooser.close("labels", time.time() + 60)
    assert chooser.choose(CAT) is None
    chooser.close("random", time.time() - 1)
    assert chooser.choose(CAT) == "random"


def test_strategies_that_want_nothing_of_a_model_are_named():
    policy = Capture.model_validate(
        {"untypical": {"below": 0.1}, "detections": {"most": 0}, "labels": {"any": ["red", "mauve"]}}
    )
    found = never_match(policy, ClassifierManifest.model_validate({**manifest(), "files": {}}))
    assert found == [
        "untypical: its answers have no p-values",
        "detections: its answers have no boxes",
        "labels: it has no label 'mauve'",
    ]
