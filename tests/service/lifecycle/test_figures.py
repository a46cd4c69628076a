"""Figures: right within their bounds, and the same whether they are counted in one process or in several."""

import json
import random

import numpy as np
import pytest

from service.lifecycle.figures import _MOST_LABELS, OTHERS, AgreementFigures, AnswerFigures, Series, Shares, Spread
from service.lifecycle.statistics import least_excess, wilson


def test_wilsons_interval():
    # Brown, Cai and DasGupta 2001.
    assert wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson(5, 10) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson(10, 10)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("total", [1, 7, 1000, 10**7])
def test_an_interval_holds_its_share(total: int):
    for count in {0, 1, total // 2, total}:
        low, high = wilson(count, total)
        assert 0 <= low <= count / total <= high <= 1


def test_the_least_excess_is_that_of_newcombe():
    # Newcombe 1998, table II: 56/70 and 48/80, method 10.
    assert least_excess(56, 70, 48, 80, z=1.959964) == pytest.approx(0.0524, abs=1e-4)


@pytest.mark.parametrize("scale", [1e-5, 0.01, 1.0, 100.0])
def test_quantiles_of_a_spread(scale: float):
    values = np.random.default_rng(0).exponential(scale, 5000)
    spread = Spread()
    for value in values:
        spread.add(float(value))
    assert spread.mean == pytest.approx(values.mean())
    assert spread.largest == values.max()
    for share in (0.5, 0.95, 0.99):
        assert spread.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.06)


def test_a_spread_is_bounded():
    spread = Spread()
    assert (spread.mean, spread.quantile(0.5)) == (0, 0)
    for exponent in np.linspace(-300, 300, 10_000):
        spread.add(10.0**exponent)
    spread.add(0.0)
    assert len(spread.to_json()[3]) < 300
    assert spread.largest == 1e6
    zeros = Spread()
    zeros.add(0.0)
    assert zeros.quantile(0.95) == 0


def test_labels_are_bounded():
    shares = Shares()
    for number in range(1000):
        shares.add(f"label {number}", 2, 1)
    assert len(shares.counts) == _MOST_LABELS + 1
    assert shares.counts[OTHERS] == [2 * (1000 - _MOST_LABELS), 1000 - _MOST_LABELS]
    other = Shares()
    other.add("label 999", 5, 5)
    shares.merge(other.counts)
    assert sum(total for total, _ in shares.counts.values()) == 2005


def test_a_series_covers_all_of_a_long_time():
    series = Series()
    for hour in range(24 * 30):
        series.add(1.8e9 + 3600 * hour, 2, 1)
    assert len(series.periods) <= 60
    assert sum(total for total, _ in series.periods.values()) == 2 * 24 * 30
    begins = [number * series.seconds for number in series.periods]
    assert min(begins) <= 1.8e9
    assert max(begins) + series.seconds > 1.8e9 + 3600 * (24 * 30 - 1)


def test_a_series_of_a_minute_has_periods_of_a_minute():
    series = Series()
    for second in range(120):
        series.add(60_000 + second)
    assert series.periods == {1000: [60, 0], 1001: [60, 0]}


def test_a_clock_that_is_set_back_or_far_ahead_loses_nothing():
    series = Series()
    for time in (1.8e9, 1.8e9 - 7200, 4e9, 0.0):
        series.add(time)
    assert sum(total for total, _ in series.periods.values()) == 4
    assert len(series.periods) <= 60


def compared(seed: int, count: int = 500) -> list[tuple[bool, float, str | None, float]]:
    chance = random.Random(seed)
    return [
        (chance.random() < 0.9, chance.random() ** 4, chance.choice(["cat", "dog", None]), 1.8e9 + 30 * number)
        for number in range(count)
    ]


def test_agreement_is_the_same_in_one_process_and_in_three():
    whole, parts = AgreementFigures(), [AgreementFigures() for _ in range(3)]
    for index, part in enumerate(parts):
        for comparison in compared(index, 100 * (index + 1)):
            whole.add(*comparison)
            part.add(*comparison)
        whole.dropped += index
        part.dropped += index
        whole.failed += 2 * index
        part.failed += 2 * index
    merged = AgreementFigures()
    for part in parts:
        merged.merge(json.loads(json.dumps(part.to_json())))
    one, other = whole.summary(), merged.summary()
    assert one.pop("difference") == pytest.approx(other.pop("difference"))
    # Which classes come first may depend on the process.
    assert sorted(one.pop("classes"), key=str) == sorted(other.pop("classes"), key=str)
    assert one == other
    assert one["compared"] == 600
    assert one["failed"] == 6
    assert one["agreement"]["low"] < one["agreement"]["value"] < one["agreement"]["high"]
    assert sum(period["compared"] for period in one["over_time"]) == 600


def test_figures_without_a_comparison():
    summary = AgreementFigures().summary()
    assert summary["agreement"] is None
    assert summary["difference"] is None
    assert summary["classes"] == summary["over_time"] == []
    answers = AnswerFigures().summary()
    assert answers["error_share"] == 0
    assert answers["unfamiliar"] is None
    assert answers["latency_ms"] == {"p50": 0, "p95": 0, "p99": 0}


def test_answers_are_merged():
    merged = AnswerFigures()
    for number in range(2):
        part = AnswerFigures()
        part.requests, part.errors, part.rated, part.unfamiliar = 10, number, 4, 1
        part.latency.add(0.010)
        part.labels.add("cat", 3)
        part.labels.add("dog", 1)
        merged.merge(json.loads(json.dumps(part.to_json())))
    summary = merged.summary()
    assert summary["requests"] == 20
    assert summary["error_share"] == 0.05
    assert summary["unfamiliar"] == 0.25
    assert summary["labels"] == {"cat": 0.75, "dog": 0.25}
    assert summary["latency_ms"]["p50"] == pytest.approx(10, rel=0.05)


def test_figures_are_small_as_json():
    figures = AgreementFigures()
    for number, (agrees, difference, _, time) in enumerate(compared(0, 5000)):
        figures.add(agrees, difference, f"class {number % 1000}", time)
    assert len(json.dumps(figures.to_json())) < 16_000
