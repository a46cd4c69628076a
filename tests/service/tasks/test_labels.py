"""From probabilities to labels and label sets."""

import numpy as np
import pytest

from service.errors import InvalidRequest
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.labels import conformal_point, label_set, top
from tests.tiny import LABELS, manifest

CARD = ClassifierManifest.model_validate({**manifest(), "files": {}})
PROBABILITIES = np.array([0.25, 0.05, 0.7], dtype=np.float32)


def test_top_is_sorted_and_cut():
    best = top(PROBABILITIES, LABELS, 2)
    assert [(score["label"], score["index"]) for score in best] == [("blue", 2), ("red", 0)]
    assert [score["probability"] for score in best] == pytest.approx([0.7, 0.25], abs=1e-6)
    assert all(type(score["probability"]) is float for score in best)
    assert len(top(PROBABILITIES, LABELS, 1000)) == 3


def test_ties_keep_the_models_order():
    tied = np.array([0.25, 0.5, 0.25], dtype=np.float32)
    assert [score["index"] for score in top(tied, LABELS, 3)] == [1, 0, 2]
    assert label_set(tied, LABELS, 0.1) == ["green", "red", "blue"]


@pytest.mark.parametrize(("coverage", "row"), [(0.5, 0.8), (0.8, 0.8), (0.81, 0.9), (0.9, 0.9), (0.95, 0.95)])
def test_the_coverage_is_rounded_up_to_the_table(coverage: float, row: float):
    assert conformal_point(CARD, coverage).coverage == row


def test_the_order_of_the_table_does_not_matter():
    turned = CARD.model_copy(update={"conformal": CARD.conformal[::-1]})
    assert conformal_point(turned, 0.85).coverage == 0.9


def test_a_coverage_beyond_the_table_is_refused():
    with pytest.raises(InvalidRequest, match=r"coverage=0.97: the highest that classifier .* is 0.95"):
        conformal_point(CARD, 0.97)


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [(0.0, ["blue", "red", "green"]), (0.2, ["blue", "red"]), (0.5, ["blue"]), (0.9, ["blue"])],
)
def test_the_label_set_always_holds_the_likeliest(threshold: float, labels: list[str]):
    assert label_set(PROBABILITIES, LABELS, threshold) == labels


def test_a_probability_equal_to_the_threshold_is_included():
    assert label_set(PROBABILITIES, LABELS, float(PROBABILITIES[0])) == ["blue", "red"]
