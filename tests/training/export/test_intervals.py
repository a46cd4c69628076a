import numpy as np
import pytest

from training.export.figures import bootstrap, bootstrap_confusion, difference, wilson


def test_interval_of_a_share_without_a_mistake_is_not_a_point():
    low, high = wilson(36, 36)
    # Newcombe 1998, table I, and the closed form n / (n + z^2).
    assert low == pytest.approx(36 / (36 + 1.959964**2), abs=1e-6)
    assert high == 1.0
    assert wilson(0, 36) == pytest.approx((0.0, 1 - low))


def test_interval_of_a_share_matches_a_published_one():
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_bootstrap_of_a_mean_is_about_two_standard_errors_wide():
    values = np.random.default_rng(3).normal(5, 2, 400)
    (low, high) = bootstrap(lambda chosen: {"mean": float(values[chosen].mean())}, 400)["mean"]
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)


def test_bootstrap_of_a_confusion_matrix_agrees_with_the_closed_form():
    confusion = np.array([[80, 20], [10, 90]])
    interval = bootstrap_confusion(lambda drawn: float(np.trace(drawn) / drawn.sum()), confusion)
    assert interval == pytest.approx(wilson(170, 200), abs=0.015)


def test_difference_of_two_shares_matches_published_ones():
    # Newcombe 1998, Statistics in Medicine 17, table II, method 10: 56 of 70 against 48 of 80, 9 of 10 against 3 of 10.
    for (right, count), (other, of), published in (
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
    ):
        interval = difference(right / count, wilson(right, count), other / of, wilson(other, of))
        assert interval == pytest.approx(published, abs=5e-5)


def test_a_figure_without_an_interval_leaves_that_of_the_other():
    assert difference(0.9, (0.85, 0.94), 0.5, (0.5, 0.5)) == pytest.approx((0.35, 0.44))
