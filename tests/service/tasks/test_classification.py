"""From bytes to the model's pixels, and from probabilities to labels and label sets."""

import numpy as np
import pytest

from service.errors import InvalidRequest
from service.inference.manifests.classification import ClassifierManifest
from service.tasks.classification import conformal_point, label_set, prepare, top
from service.tasks.images import EncodedImage, fit
from tests.pictures import encode, photograph
from tests.tiny import LABELS, manifest, solid

CARD = ClassifierManifest.model_validate({**manifest(), "files": {}})
PROBABILITIES = np.array([0.25, 0.05, 0.7], dtype=np.float32)


def test_prepare_gives_the_size_and_channels_of_the_manifest():
    pixels = photograph(50, 70)
    np.testing.assert_array_equal(prepare(EncodedImage.open(encode(pixels)), CARD)[0], fit(pixels, 8, 8))
    grey = CARD.model_copy(update={"image": CARD.image.model_copy(update={"channels": 1, "height": 5, "width": 6})})
    assert prepare(EncodedImage.open(encode(pixels)), grey)[0].shape == (5, 6, 1)


def test_prepare_leaves_the_right_size_alone():
    np.testing.assert_array_equal(prepare(EncodedImage.open(encode(solid("green"))), CARD)[0], solid("green"))


def test_prepare_of_a_large_jpeg_is_near_its_whole():
    pixels = photograph(600, 800)
    small, _ = prepare(EncodedImage.open(encode(pixels, "JPEG", quality=95)), CARD)
    assert np.abs(small.astype(int) - fit(pixels, 8, 8)).mean() < 3


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
def test_the_least_coverage_that_is_enough(coverage: float, row: float):
    assert conformal_point(CARD, coverage).coverage == row


def test_the_order_of_the_table_does_not_matter():
    reversed_card = CARD.model_copy(update={"conformal": CARD.conformal[::-1]})
    assert conformal_point(reversed_card, 0.85).coverage == 0.9


def test_a_coverage_beyond_the_table_is_refused():
    with pytest.raises(InvalidRequest, match=r"coverage=0.97: the highest .* is 0.95"):
        conformal_point(CARD, 0.97)


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [(0.0, ["blue", "red", "green"]), (0.2, ["blue", "red"]), (0.5, ["blue"]), (0.9, ["blue"])],
)
def test_the_label_set_always_holds_the_likeliest(threshold: float, labels: list[str]):
    assert label_set(PROBABILITIES, LABELS, threshold) == labels


def test_a_threshold_is_met_by_its_own_value():
    assert label_set(PROBABILITIES, LABELS, float(PROBABILITIES[0])) == ["blue", "red"]
