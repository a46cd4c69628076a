import itertools

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from service.inference.session import Session
from training.data.splits import split_validation
from training.export.calibration import Scaling, softmax
from training.export.figures import COVERAGES, evaluate, label_intervals, milliseconds_per_image, wilson

CLASSES = ("a", "b", "c")


def noisy_logits(count, seed, scale=3.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    logits = scale * (np.eye(3)[labels] + random.normal(scale=0.7, size=(count, 3)))
    return logits.astype(np.float32), labels


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(CLASSES, *noisy_logits(600, seed=1), *noisy_logits(500, seed=2))


@pytest.fixture(scope="module")
def small():
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    answer = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    logits = 2 * np.eye(3, dtype=np.float32)[answer]
    return evaluate(CLASSES, logits[:4], truth[:4], logits, truth)


def test_accuracy_and_confusion_match_a_count_by_hand(small):
    assert small.metrics.accuracy == pytest.approx(5 / 8)
    assert small.metrics.validation_accuracy == pytest.approx(3 / 4)
    assert small.confusion.tolist() == [[3, 1, 0], [1, 2, 0], [1, 0, 0]]


def test_per_class_metrics_match_a_count_by_hand(small):
    figures = [(row.label, row.precision, row.recall, row.f1, row.support) for row in small.metrics.per_class]
    assert figures == [
        ("a", pytest.approx(3 / 5), pytest.approx(3 / 4), pytest.approx(2 / 3), 4),
        ("b", pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3),
        ("c", 0, 0, 0, 1),
    ]
    assert small.metrics.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert small.intervals["accuracy"] == pytest.approx(wilson(5, 8))


def test_log_likelihood_is_that_of_the_calibrated_probabilities(evaluation):
    truth = evaluation.probabilities[np.arange(500), evaluation.labels]
    assert evaluation.metrics.negative_log_likelihood == pytest.approx(-np.log(truth).mean(), rel=1e-5)


def test_probabilities_are_those_of_the_scaled_logits(evaluation):
    logits, labels = noisy_logits(500, seed=2)
    np.testing.assert_array_equal(evaluation.labels, labels)
    np.testing.assert_allclose(evaluation.uncalibrated, softmax(logits), rtol=1e-6)
    expected = Scaling.of(evaluation.calibration).probabilities(logits)
    np.testing.assert_allclose(evaluation.probabilities, expected, rtol=1e-5)


def test_temperature_comes_from_validation_alone():
    validation, first, second = noisy_logits(300, 1), noisy_logits(300, 2), noisy_logits(200, 3, scale=9.0)
    calibrations = [evaluate(CLASSES, *validation, *test).calibration for test in (first, second)]
    assert calibrations[0].temperature == calibrations[1].temperature


def test_scaling_repairs_overconfident_logits():
    calibration = evaluate(
        CLASSES, *noisy_logits(3000, seed=1, scale=9.0), *noisy_logits(3000, seed=2, scale=9.0)
    ).calibration
    assert calibration.temperature > 1
    assert calibration.ece_after < calibration.ece_before / 2


def test_conformal_table_is_monotone_and_covers_what_it_promises(evaluation):
    table = evaluation.conformal
    assert [point.coverage for point in table] == list(COVERAGES)
    for lower, higher in itertools.pairwise(table):
        assert higher.threshold <= lower.threshold
        assert higher.test_coverage >= lower.test_coverage
        assert higher.mean_set_size >= lower.mean_set_size
    for point in table:
        error = np.sqrt(point.coverage * (1 - point.coverage) * (1 / 500 + 1 / 300))
        assert point.test_coverage >= point.coverage - 4 * error
        assert 1 <= point.mean_set_size <= 3


def test_label_sets_are_counted_with_the_likeliest_label_always_inside(small):
    for point in small.conformal:
        sets = small.probabilities >= point.threshold
        sets[np.arange(8), small.probabilities.argmax(1)] = True
        assert point.mean_set_size == pytest.approx(sets.sum(1).mean())
        assert point.test_coverage == pytest.approx(sets[np.arange(8), small.labels].mean())


def test_class_without_a_test_image_counts_as_zero_and_not_as_an_error():
    truth = np.array([0, 1, 0, 1])
    logits = 4 * np.eye(3, dtype=np.float32)[truth]
    metrics = evaluate(CLASSES, logits, truth, logits, truth).metrics
    assert metrics.accuracy == 1
    assert (metrics.per_class[2].support, metrics.per_class[2].f1) == (0, 0)
    # It says nothing about the classifier, so it is no part of the mean.
    assert metrics.macro_f1 == 1


@pytest.mark.parametrize(
    ("batch", "durations", "expected"),
    [
        (1, [5.0, 0.008, 0.001, 0.008, 0.9, 0.008], 8.0),
        (8, [5.0, 0.008, 0.001, 0.008, 0.9, 0.008], 1.0),
        (40, [5.0, 0.008, 0.001, 0.008, 0.9, 0.008], 0.2),
        (8, [5.0, 2.0, 1.6, 2.4], 250.0),  # slow graphs run fewer times
    ],
)
def test_time_of_an_image_is_the_median_of_batches_after_the_first(
    exported_cnn, colours, monkeypatch, batch, durations, expected
):
    def run(self, inputs):
        sizes.append(len(inputs["images"]))
        clock[0] += durations[len(sizes) - 1]

    clock, sizes = [0.0], []
    monkeypatch.setattr(Session, "run", run)
    monkeypatch.setattr("training.export.figures.time.perf_counter", lambda: clock[0])
    found = milliseconds_per_image(exported_cnn.path, colours.test.images, batch, repeats=5)
    assert found == pytest.approx(expected)
    assert sizes == [batch] * len(durations)  # there are 30 images


def test_coverage_comes_with_what_to_compare_it_with(evaluation):
    for point in evaluation.conformal:
        assert point.test_interval[0] <= point.test_coverage <= point.test_interval[1]
        assert point.test_coverage >= point.expected[0]
        assert point.cross_fitted >= point.coverage - 0.02
    assert evaluation.conformal[-1].expected[0] < 0.99 < evaluation.conformal[-1].expected[1]


def test_a_shifted_test_split_shows_beside_the_cross_fitted_coverage():
    logits, labels = noisy_logits(600, seed=2)
    shifted = labels.copy()
    shifted[:60] = (shifted[:60] + 1) % 3
    point = evaluate(CLASSES, *noisy_logits(600, seed=1), logits, shifted).conformal[-1]
    assert point.test_interval[1] < point.coverage
    assert point.test_coverage < point.expected[0]
    assert point.cross_fitted >= 0.98


def test_every_interval_holds_its_figure(evaluation):
    figures = {
        "accuracy": evaluation.metrics.accuracy,
        "macro_f1": evaluation.metrics.macro_f1,
        "negative_log_likelihood": evaluation.metrics.negative_log_likelihood,
    }
    for name, value in figures.items():
        low, high = evaluation.intervals[name]
        assert low < value < high
        assert high - low < 0.15
    low, high = evaluation.intervals["ece_after"]
    assert 0 <= low <= evaluation.calibration.ece_after < high < 0.1


def test_the_interval_of_a_small_calibration_error_holds_it():
    # Each confidence is right as often as it says: the error of every resample is larger than that of the items.
    probabilities = np.repeat([[0.75, 0.25]], 400, axis=0).astype(np.float32)
    labels = np.tile([0, 0, 0, 1], 100)
    low, high = label_intervals(probabilities, labels, confusion_matrix(labels, 0 * labels))["ece_after"]
    assert low == 0 < high < 0.05


def test_temperature_and_label_sets_come_of_different_halves():
    (logits, labels), test = noisy_logits(600, seed=1), noisy_logits(500, seed=2)
    before = evaluate(CLASSES, logits, labels, *test)
    worse = []
    for half in split_validation(labels):
        wrong = logits.copy()
        wrong[half[:60]] = np.roll(wrong[half[:60]], 1, axis=1)
        worse.append(evaluate(CLASSES, wrong, labels, *test))
    assert worse[0].calibration.temperature > before.calibration.temperature
    assert worse[1].calibration.temperature == before.calibration.temperature
    assert worse[1].conformal[-1].threshold < before.conformal[-1].threshold
