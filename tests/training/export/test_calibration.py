import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.tasks.cards import Calibration
from training.export.calibration import (
    Scaling,
    conformal_threshold,
    expected_calibration_error,
    fit_scaling,
    fit_temperature,
    reliability,
    softmax,
)


def calibrated(count, classes=5, seed=0, spread=2.0):
    """Log-probabilities, and labels that are sampled from these probabilities."""
    random = np.random.default_rng(seed)
    probabilities = softmax(random.normal(scale=spread, size=(count, classes)).astype(np.float32))
    labels = (probabilities.cumsum(1) < random.random((count, 1))).sum(1).clip(max=classes - 1)
    return np.log(probabilities), labels


def two_classes(confidence, correct):
    """Rows of two probabilities of which the first is higher; label 0 if `correct`."""
    confidence = np.asarray(confidence, dtype=np.float32)
    return np.stack((confidence, 1 - confidence), axis=1), np.where(correct, 0, 1)


def test_softmax_matches_its_definition_and_survives_large_logits():
    logits = np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0]], dtype=np.float32)
    powers = np.exp([1.0, 2.0, 3.0])
    np.testing.assert_allclose(softmax(logits)[0], powers / powers.sum(), rtol=1e-6)
    np.testing.assert_allclose(softmax(logits)[1], [1, 0, 0])


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_temperature_of_synthetic_logits_is_recovered(temperature):
    logits, labels = calibrated(20_000)
    assert fit_temperature(logits * np.float32(temperature), labels) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize("scale", [1, 5, 50])
def test_if_no_prediction_is_wrong_the_confidence_is_limited_by_the_number_of_examples(scale):
    labels = np.arange(30) % 3
    logits = scale * np.eye(3, dtype=np.float32)[labels]
    probabilities = softmax(logits / fit_temperature(logits, labels))
    # As with one additional example for which each of the three has a probability of a third.
    np.testing.assert_allclose(probabilities.max(1), (30 + 1 / 3) / 31, atol=1e-4)


def test_calibrated_predictions_have_almost_no_error_and_scaled_logits_do():
    logits, labels = calibrated(50_000)
    assert expected_calibration_error(softmax(logits), labels) < 0.01
    assert expected_calibration_error(softmax(logits * 3), labels) > 0.1


def test_error_of_an_overconfident_model_is_the_gap():
    probabilities, labels = two_classes([0.9] * 10, [True] * 6 + [False] * 4)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.3)


def test_error_is_the_mean_over_bins_weighted_by_their_size():
    probabilities, labels = two_classes([0.95] * 6 + [0.55] * 2, [True] * 3 + [False] * 3 + [True] * 2)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.75 * 0.45 + 0.25 * 0.45)


def test_reliability_has_fraction_confidence_and_accuracy_of_each_bin():
    probabilities, labels = two_classes([0.55, 0.55, 1.0, 1.0], [True, False, True, True])
    assert reliability(probabilities, labels) == [
        (pytest.approx(0.5), pytest.approx(0.55), pytest.approx(0.5)),
        (pytest.approx(0.5), pytest.approx(1.0), pytest.approx(1.0)),
    ]


def truth_scores(scores):
    """Two-class probabilities whose true label has these scores."""
    scores = np.asarray(scores, dtype=np.float32)
    return np.stack((scores, 1 - scores), axis=1), np.zeros(len(scores), dtype=np.int64)


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 999), min_size=2, max_size=40, unique=True),
    st.floats(0.01, 0.99),
)
def test_leave_one_out_coverage_of_exchangeable_scores_is_high_enough(scores, coverage):
    scores = np.array(scores, dtype=np.float32) / 1000
    covered = [
        scores[i] >= np.float32(conformal_threshold(*truth_scores(np.delete(scores, i)), coverage))
        for i in range(len(scores))
    ]
    assert np.mean(covered) >= coverage - 1e-9
    assert np.mean(covered) <= coverage + 1 / len(scores) + 1e-9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_on_fresh_data_is_the_requested_one(seed, coverage):
    logits, labels = calibrated(6_000, seed=seed)
    probabilities = softmax(logits)
    threshold = conformal_threshold(probabilities[:2_000], labels[:2_000], coverage)
    truth = probabilities[np.arange(2_000, 6_000), labels[2_000:]]
    sampling_error = np.sqrt(coverage * (1 - coverage) * (1 / 2_000 + 1 / 4_000))
    assert (truth >= threshold).mean() == pytest.approx(coverage, abs=4 * sampling_error)


@pytest.mark.parametrize(("coverage", "rank"), [(0.8, 20), (0.9, 10), (0.95, 5), (0.99, 1)])
def test_threshold_is_the_score_at_the_corrected_rank(coverage, rank):
    scores = np.arange(1, 100) / 100  # 99 of them: (n + 1)(1 - coverage) is whole
    threshold = conformal_threshold(*truth_scores(scores), coverage)
    assert threshold == pytest.approx(rank / 100)


def test_too_few_scores_for_the_coverage_let_every_label_in():
    assert conformal_threshold(*truth_scores([0.2, 0.5, 0.9]), 0.9) == 0.0


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 300))
def test_more_coverage_never_raises_the_threshold(seed, count):
    logits, labels = calibrated(count, seed=seed)
    probabilities = softmax(logits)
    thresholds = [conformal_threshold(probabilities, labels, c) for c in np.linspace(0.05, 0.99, 40)]
    assert thresholds == sorted(thresholds, reverse=True)


def items(count, scaling, seed=0, classes=6):
    """Logits whose probabilities are right once they are scaled, and labels drawn from these."""
    random = np.random.default_rng(seed)
    logits = (4 * random.standard_normal((count, classes))).astype(np.float32)
    chances = scaling.probabilities(logits).cumsum(1)
    return logits, (chances < random.random((count, 1))).sum(1).clip(max=classes - 1)


@pytest.mark.parametrize("exponent", [0.6, 1.7])
def test_temperature_and_exponent_are_recovered(exponent):
    logits, labels = items(20_000, Scaling(1.5, exponent))
    found = fit_scaling(logits, labels)
    assert found.exponent == pytest.approx(exponent, rel=0.06)
    assert found.temperature == pytest.approx(1.5, rel=0.06)
    assert expected_calibration_error(found.probabilities(logits), labels) < 0.01


@pytest.mark.parametrize("count", [20, 100, 3000])
def test_a_temperature_is_enough_where_an_exponent_does_not_help(count):
    logits, labels = items(count, Scaling(2.0))
    found = fit_scaling(logits, labels)
    assert found.exponent == 1
    if count == 3000:
        assert found.temperature == pytest.approx(2, rel=0.1)


def test_an_exponent_of_1_divides_the_logits():
    logits, _ = items(20, Scaling())
    np.testing.assert_allclose(Scaling(2.0).probabilities(logits), softmax(logits / 2), rtol=1e-6)
    # The other formula comes to the same.
    np.testing.assert_allclose(Scaling(2.0, 1.0000001).probabilities(logits), softmax(logits / 2), rtol=1e-4)


def test_the_order_of_the_classes_is_kept():
    logits, _ = items(500, Scaling())
    for exponent in (0.5, 1.0, 3.0):
        probabilities = Scaling(3.0, exponent).probabilities(logits)
        # The smallest may be equal after rounding.
        assert (np.diff(np.take_along_axis(probabilities, logits.argsort(1), 1)) >= 0).all()
        np.testing.assert_array_equal(probabilities.argmax(1), logits.argmax(1))


def test_an_exponent_above_1_raises_high_confidences_and_lowers_those_in_the_middle():
    def confidence(scaling, lead):
        return scaling.probabilities(np.array([[lead, 0, 0]], np.float32)).max()

    scaling = Scaling(2.2, 2.0)
    assert confidence(scaling, 6.0) > confidence(Scaling(), 6.0)
    assert confidence(scaling, 1.0) < confidence(Scaling(), 1.0)


def test_a_split_without_a_mistake_leads_to_no_certainty():
    logits, _ = items(300, Scaling())
    scaling = fit_scaling(logits, logits.argmax(1))
    assert np.isfinite(scaling.probabilities(logits)).all()
    assert scaling.probabilities(logits).max(1).min() < 1


def test_logits_so_far_apart_that_a_probability_is_1():
    logits = np.array([[200.0, 0.0, -50.0]], np.float32)
    np.testing.assert_allclose(Scaling(1.0, 1.8).probabilities(logits), [[1.0, 0.0, 0.0]])


def test_a_manifest_of_before_exponents_has_the_exponent_1():
    old = Calibration(temperature=1.7, ece_before=0.1, ece_after=0.1)
    assert (Scaling.of(old).temperature, Scaling.of(old).exponent) == (1.7, 1)
    assert "exponent" not in old.model_dump()
    assert Scaling.of(Calibration(**old.model_dump(), exponent=1.5)).exponent == 1.5
