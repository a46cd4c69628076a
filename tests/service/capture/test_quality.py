"""The figures of feedback, and their intervals."""

import numpy as np
import pytest

from service.capture.feedback_table import Sums
from service.capture.quality import by_version, estimate

RANDOM = np.random.default_rng(0)


def sums(points: np.ndarray, weights: np.ndarray, figure: str = "mean absolute error", version: str = "1", window=0):
    p, w = points, weights
    numbers = (p.sum(), w.sum(), (p * p).sum(), (p * w).sum(), (w * w).sum())
    return Sums(version, figure, window, len(p), *map(float, numbers))


def test_a_share_has_wilsons_interval():
    found = estimate([sums(np.array([1.0] * 8 + [0.0] * 2), np.ones(10), "accuracy")])
    assert found["value"] == pytest.approx(0.8)
    assert (found["low"], found["high"]) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_the_interval_of_a_mean_is_the_usual_one():
    errors = RANDOM.exponential(2, 400)
    found = estimate([sums(errors, np.ones(400))])
    half = 1.959964 * errors.std(ddof=1) / 20
    assert found["value"] == pytest.approx(errors.mean())
    assert found["high"] - found["value"] == pytest.approx(half)


def test_intervals_of_f1_hold_what_they_promise():
    """Images with few and many boxes, of which 70 % are found."""
    hits = 0
    for _ in range(400):
        boxes = RANDOM.integers(1, 30, 80)
        found = estimate([sums(2.0 * RANDOM.binomial(boxes, 0.7), 2.0 * boxes, "F1 at an IoU of 0.5")])
        hits += found["low"] <= 0.7 <= found["high"]
    assert 0.91 < hits / 400 < 0.985


def test_a_single_item_has_no_interval():
    assert estimate([sums(np.array([2.0]), np.ones(1))])["low"] is None


def test_versions_and_windows_are_apart():
    found = by_version(
        [
            sums(np.ones(3), np.ones(3), "accuracy", "9", 0),
            sums(np.zeros(1), np.ones(1), "accuracy", "9", 5),
            sums(np.ones(2), np.ones(2), "accuracy", "10", 5),
        ],
        1000.0,
        60.0,
    )
    assert [(each["version"], each["count"], each["value"]) for each in found] == [("10", 2, 1), ("9", 4, 0.75)]
    assert [(each["time"], each["count"]) for each in found[1]["windows"]] == [(1000, 3), (1300, 1)]
    assert by_version([], 0, 1) == []
