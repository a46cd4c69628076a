"""Thresholds that are chosen by their precision or recall on the validation split."""

import pytest

from service.errors import InvalidRequest
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.detection.thresholds import best_figures, choose_threshold, class_filter
from tests.tiny_detector import manifest

CARD = DetectorManifest.model_validate({**manifest(), "files": {}})


def test_without_a_choice_the_threshold_has_the_best_f1():
    threshold = choose_threshold(CARD)
    f1 = dict(zip(CARD.curves.confidence, CARD.curves.overall.f1, strict=True))
    assert f1[threshold.confidence] == max(f1.values())
    assert threshold.confidence == CARD.default_confidence


def test_precision_takes_the_lowest_threshold_that_reached_it():
    threshold = choose_threshold(CARD, precision=0.8)
    assert threshold.confidence == 0.67
    assert threshold.precision >= 0.8
    assert threshold.recall == pytest.approx(1 - 0.67**2)


def test_recall_takes_the_highest_threshold_that_reached_it():
    threshold = choose_threshold(CARD, recall=0.75)
    assert threshold.confidence == 0.5
    assert threshold.recall == 0.75


def test_a_confidence_between_two_points_has_the_figures_of_the_lower():
    threshold = choose_threshold(CARD, confidence=0.405)
    assert threshold.confidence == 0.405
    assert threshold.precision == pytest.approx(0.5 + 0.45 * 0.4)
    assert choose_threshold(CARD, confidence=0.0).recall == 1.0


def test_a_precision_that_no_useful_threshold_reached_is_refused_with_the_best():
    # At 1.0 nothing is found, and so nothing is wrong; such a threshold is not used.
    with pytest.raises(InvalidRequest, match=r"precision=0.97: no threshold of 'detector' reached it.*best is 0.9455"):
        choose_threshold(CARD, precision=0.97)


def test_a_recall_that_was_not_reached_is_refused_with_the_best():
    points = {"precision": (0.5,) * 101, "recall": (0.7,) * 101, "f1": (0.58,) * 101}
    curves = {**manifest()["curves"], "overall": points}
    card = DetectorManifest.model_validate({**manifest(curves=curves), "files": {}})
    with pytest.raises(InvalidRequest, match=r"recall=0.8: .*best is 0.7000"):
        choose_threshold(card, recall=0.8)


def test_the_best_figures_are_those_that_can_be_asked_for():
    best = best_figures(CARD.curves)
    assert best == {"precision": pytest.approx(0.9455), "recall": 1.0}
    for name, value in best.items():
        choose_threshold(CARD, **{name: value})
        if value < 1:
            with pytest.raises(InvalidRequest, match="no threshold"):
                choose_threshold(CARD, **{name: value + 1e-6})


def test_validation_chooses_and_the_answer_says_what_the_choice_did_on_test():
    curves = manifest()["curves"]
    worse = {**curves["overall"], "precision": [value - 0.1 for value in curves["overall"]["precision"]]}
    card = DetectorManifest.model_validate({**manifest(test_curves={**curves, "overall": worse}), "files": {}})
    chosen, before = choose_threshold(card, precision=0.8), choose_threshold(CARD, precision=0.8)
    assert chosen.confidence == before.confidence
    assert chosen.precision == pytest.approx(before.precision - 0.1)
    assert choose_threshold(card).confidence == choose_threshold(CARD).confidence


def test_two_choices_at_once_are_refused():
    with pytest.raises(InvalidRequest, match="confidence and recall each choose"):
        choose_threshold(CARD, confidence=0.5, recall=0.5)


def test_classes_are_named_by_label():
    assert class_filter(CARD, None) is None
    assert class_filter(CARD, "blue, red") == {0, 2}
    with pytest.raises(InvalidRequest, match="'pink' is none of the labels: red, green, blue"):
        class_filter(CARD, "red,pink")
    with pytest.raises(InvalidRequest) as refusal:
        class_filter(CARD, "x" * 30_000)
    assert len(refusal.value.detail) < 200
