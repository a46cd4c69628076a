"""The simulation against what queueing theory knows, and the capacity that follows from it."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.capacity import capacity, load, plan
from benchmarks.openloop import bursts, poisson
from benchmarks.simulation import Costs, simulate

SECONDS = 0.01
ALONE = Costs(1, 1, {1: [SECONDS]}, {1: [SECONDS]}, loop=0.0, fixed=0.0)


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_one_item_at_a_time_is_an_m_d_1_queue(utilisation: float):
    random = np.random.default_rng(1)
    outcome = simulate(ALONE, poisson(utilisation / SECONDS, 600, random), random, max_wait=100)
    assert not outcome.refused
    # Pollaczek and Khinchine, for service times that are all the same.
    wait = utilisation * SECONDS / (2 * (1 - utilisation))
    assert outcome.mean_ms / 1000 == pytest.approx(SECONDS + wait, rel=0.05)


def test_what_is_too_much_is_refused():
    random = np.random.default_rng(1)
    outcome = simulate(ALONE, poisson(2 / SECONDS, 300, random), random)
    assert outcome.refused_share == pytest.approx(0.5, abs=0.02)
    assert outcome.p95_ms < 600


def test_batches_answer_more_than_single_items():
    batches = {size: [SECONDS * (0.5 + 0.5 * size)] for size in range(1, 9)}
    costs = Costs(2, 8, batches, batches, loop=0.0, fixed=0.0)
    random = np.random.default_rng(1)
    assert capacity(costs) == pytest.approx(2 / (SECONDS * 4.5 / 8))
    outcome = simulate(costs, poisson(0.9 * capacity(costs), 60, random), random)
    assert outcome.refused_share < 0.01


def test_bursts_come_at_the_rate_that_is_asked_for():
    times = bursts(100, 100, np.random.default_rng(1))
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert times == sorted(times)


def test_a_plan(tmp_path: Path):
    (tmp_path / "costs.json").write_text(json.dumps(asdict(ALONE)))
    assert load(tmp_path / "costs.json") == ALONE
    made = plan(ALONE, rate=1000, p95_ms=40, kilobytes=125, dollars_an_hour=0.36)
    assert 0.5 < made.load < 0.9
    assert made.replicas == -(-1000 // made.rate) + 1
    assert made.megabits_in == 1000
    assert made.dollars == pytest.approx(made.replicas * 0.1)
    with pytest.raises(ValueError, match="however few"):
        plan(ALONE, rate=1000, p95_ms=5, kilobytes=1, dollars_an_hour=1)
