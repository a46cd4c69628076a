"""When a canary is withdrawn: beyond the limit, and beyond chance."""

import random

import pytest

from service.lifecycle.figures import AnswerFigures
from service.lifecycle.judge import judge
from service.policy.policy import Withdraw

LIMITS = Withdraw(after=100, errors=0.02, latency=2.0, unfamiliar=0.2)


def figures(requests: int, errors: int = 0, unfamiliar: int = 0, seconds: float = 0.01, seed: int = 0) -> AnswerFigures:
    made = AnswerFigures()
    made.requests, made.errors, made.rated, made.unfamiliar = requests, errors, requests, unfamiliar
    chance = random.Random(seed)
    for _ in range(requests - errors):
        made.latency.add(chance.lognormvariate(0, 0.5) * seconds)
    return made


def test_a_canary_that_does_as_well_stays():
    assert judge(LIMITS, figures(2000), figures(100)) is None
    assert judge(LIMITS, figures(2000, errors=200), figures(1000, errors=100)) is None


@pytest.mark.parametrize(("requests", "errors"), [(99, 99), (100, 1), (100, 2), (1000, 20)])
def test_a_few_errors_are_no_reason(requests, errors):
    assert judge(LIMITS, figures(2000), figures(requests, errors)) is None


def test_errors_beyond_the_limit_are():
    assert judge(LIMITS, figures(2000), figures(214, errors=26)) == "errors 0.12 against 0.00 after 214 requests"
    assert judge(LIMITS, figures(2000), figures(100, errors=100)) == "errors 1.00 against 0.00 after 100 requests"


def test_one_error_of_a_hundred_is_chance_even_for_a_strict_limit():
    strict = Withdraw(after=100, errors=0.001)
    assert judge(strict, figures(2000), figures(100, errors=1)) is None
    assert judge(strict, figures(200_000), figures(10_000, errors=100)) is not None


def test_errors_of_the_default_version_excuse_those_of_the_canary():
    assert judge(LIMITS, figures(2000, errors=400), figures(200, errors=40)) is None
    # Of 30 requests nothing is known.
    assert judge(LIMITS, figures(30), figures(100, errors=6)) is None


def test_without_calls_of_the_default_version_the_limit_counts_alone():
    assert judge(LIMITS, figures(0), figures(100, errors=3)) == "errors 0.03 against none after 100 requests"
    assert judge(LIMITS, figures(0), figures(100, errors=2)) is None


def test_a_canary_that_is_much_slower_is_withdrawn():
    why = judge(LIMITS, figures(2000), figures(100, seconds=0.1, seed=1))
    assert why is not None
    assert why.startswith("p95 ")
    assert why.endswith(" after 100 requests")
    assert judge(LIMITS, figures(2000), figures(100, seconds=0.018, seed=1)) is None
    assert judge(LIMITS, figures(0), figures(100, seconds=10)) is None


def test_a_few_slow_calls_are_no_reason():
    canary = figures(95)
    for _ in range(6):
        canary.requests += 1
        canary.latency.add(30.0)
    assert judge(LIMITS, figures(2000), canary) is None


def test_inputs_that_only_the_canary_does_not_know():
    assert (
        judge(LIMITS, figures(2000, unfamiliar=40), figures(100, unfamiliar=50))
        == "unfamiliar inputs 0.50 against 0.02 after 100 requests"
    )
    assert judge(LIMITS, figures(2000, unfamiliar=1000), figures(100, unfamiliar=60)) is None


def test_limits_that_are_not_set_are_not_looked_at():
    lenient = Withdraw(after=100, errors=1)
    assert judge(lenient, figures(2000), figures(100, errors=50, unfamiliar=50, seconds=10)) is None
    nothing = figures(100)
    nothing.rated = 0
    assert judge(LIMITS, figures(2000), nothing) is None
