"""Distances between histograms, and the thresholds that chance sets."""

from typing import Any

import numpy as np
import pytest

from service.drift.distance import ITEMS, THRESHOLD, Bins, chance_threshold
from service.drift.histograms import make_histogram
from service.tasks.base import Statistic, Values

COLOURS = ("red", "green", "blue")


def numbers(values: Any) -> Any:
    return make_histogram(Statistic("input", "size"), Values(np.asarray(values, np.float64)))


def categories(counts: Any, names: tuple[str, ...] = COLOURS) -> Any:
    values = np.repeat(np.arange(len(names)), counts)
    return make_histogram(Statistic("answer", "label", names), Values(values))


def distance(histogram: Any, values: Any, names: tuple[str, ...] = COLOURS) -> float:
    bins = Bins(histogram, names)
    counts, *_ = bins.count(Values(np.asarray(values)))
    return bins.distance(counts)


@pytest.mark.parametrize(("shift", "scale"), [(0.1, 1.0), (0.5, 1.0), (3.0, 1.0), (0.0, 2.0), (-1.0, 0.5)])
def test_the_distance_of_numbers_is_wassersteins(shift: float, scale: float):
    random = np.random.default_rng(0)
    known, others = random.normal(5, 2, 5000), random.normal(5, 2, 5000)
    changed = (others - 5) * scale + 5 + 2 * shift
    # Of two samples of one size, it is the mean distance of the values of the same rank.
    exact = np.abs(np.sort(known) - np.sort(changed)).mean() / known.std()
    assert distance(numbers(known), changed) == pytest.approx(exact, rel=0.1, abs=0.01)  # bins far out are wide


def test_the_distance_of_categories_is_jensen_shannons():
    histogram = categories([500, 300, 200])
    assert distance(histogram, np.repeat([0, 1, 2], [50, 30, 20])) == pytest.approx(0, abs=1e-6)
    # The middle of (0.5, 0.3, 0.2) and (1, 0, 0) is (0.75, 0.15, 0.1).
    divergence = (0.5 * np.log2(0.5 / 0.75) + 0.5 * np.log2(2) + np.log2(1 / 0.75)) / 2
    assert distance(histogram, np.zeros(100, int)) == pytest.approx(divergence**0.5)
    assert distance(categories([10, 0, 0]), np.full(10, 2)) == pytest.approx(1)


@pytest.mark.parametrize("factor", [10, 1000, 1e9, -1e9, 0])
def test_other_units_are_far_away(factor: float):
    values = np.random.default_rng(0).normal(14, 3, 1000)
    assert distance(numbers(values), values * factor) > 1


@pytest.mark.parametrize("constant", [0.0, 1.0, -3e7])
def test_a_constant_is_a_distribution_too(constant: float):
    histogram = numbers(np.full(100, constant))
    assert distance(histogram, np.full(50, constant)) == 0
    assert distance(histogram, np.full(50, constant * 1.1 + 0.1)) > histogram.threshold


def test_missing_values_count():
    histogram = numbers([*range(100), np.nan])
    assert histogram.missing == 1
    values = np.arange(100.0)
    assert distance(histogram, values) < THRESHOLD
    values[::4] = np.nan
    assert distance(histogram, values) > 0.2
    assert distance(histogram, np.full(10, np.nan)) == pytest.approx(0.95, abs=0.05)
    assert distance(numbers(np.full(10, np.nan)), np.full(10, np.nan)) == 0


def test_infinite_values_are_in_the_last_bins():
    bins = Bins(numbers(np.arange(100.0)))
    counts, total, squares = bins.count(Values(np.array([-np.inf, np.inf, np.nan])))
    assert (counts[0], counts[-2], counts[-1]) == (1, 1, 1)
    assert np.isfinite([total, squares]).all()


def test_nothing_is_no_distance():
    for histogram in (numbers(np.arange(10.0)), categories([1, 2, 3])):
        bins = Bins(histogram, COLOURS)
        assert bins.distance(np.zeros_like(bins.reference)) == 0


def test_rare_categories_share_a_bin():
    names = tuple(f"word {index}" for index in range(50))
    histogram = categories([300, 200, *[2] * 48], names)
    assert histogram.categories == ("word 0", "word 1", "(others)")
    assert histogram.counts == (300, 200, 96)
    values = np.repeat(np.arange(50), [30, 20, *[0] * 47, 10])
    assert Bins(histogram, names).count(Values(values))[0].tolist() == [30, 20, 10]


def test_weights_of_an_item_with_several_labels():
    bins = Bins(categories([10, 10, 10]), COLOURS)
    counts, *_ = bins.count(Values(np.array([0, 0, 1, 2]), np.array([0.5, 0.25, 0.25, 1.0])))
    assert counts.tolist() == [0.75, 0.25, 1.0]


def test_a_large_reference_has_about_the_usual_threshold():
    assert numbers(np.random.default_rng(0).normal(size=5000)).threshold < 0.17
    assert categories([2000, 2000, 1000]).threshold == THRESHOLD


@pytest.mark.parametrize("size", [50, 500])
def test_chance_alone_does_not_reach_the_threshold_of_a_small_reference(size: int):
    random = np.random.default_rng(1)
    farthest = []
    for _ in range(40):
        histogram = numbers(random.normal(size=size))
        farthest.append(distance(histogram, random.normal(size=ITEMS)) / histogram.threshold)
        histogram = categories(random.multinomial(size, [0.5, 0.3, 0.2]))
        farthest.append(distance(histogram, random.choice(3, ITEMS, p=[0.5, 0.3, 0.2])) / histogram.threshold)
    assert max(farthest) < 1
    assert chance_threshold(numbers(random.normal(size=50))) > chance_threshold(numbers(random.normal(size=500)))
