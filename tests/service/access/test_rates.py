"""GCRA: the rate in the long run, the burst at once, the exact wait, and the fields that say so."""

import random

import pytest

from service.access.rates import Limit, rate_fields


def test_a_burst_and_then_the_rate():
    limit = Limit("requests", rate=10, burst=2)
    assert [limit.hit(1, 100.0) for _ in range(20)] == [0.0] * 20
    assert limit.hit(1, 100.0) == pytest.approx(0.1)
    assert limit.hit(1, 100.09) == pytest.approx(0.01)
    assert limit.hit(1, 100.1) == 0
    assert limit.hit(1, 1000.0) == 0
    assert [limit.hit(1, 1000.0) for _ in range(20)].count(0.0) == 19  # no more than a burst is saved up


def test_the_wait_is_exact():
    source = random.Random(0)
    for _ in range(300):
        limit = Limit("items", rate=source.uniform(0.01, 1000), burst=source.uniform(0.01, 20))
        now = source.uniform(0, 1e6)
        for _ in range(30):
            cost = source.choice([1, 1, 2, 7, 100])
            if wait := limit.hit(cost, now):
                assert limit.test(cost, now + 0.999 * wait - 2e-6)
                assert not limit.test(cost, now + wait)
                now += wait
                assert not limit.hit(cost, now)
            now += source.choice([0, 0, source.expovariate(10)])


def test_in_the_long_run_nobody_gets_more_than_the_rate_and_a_burst():
    source = random.Random(1)
    limit = Limit("items", rate=50, burst=0.5)
    taken, now = 0, 0.0
    while now < 100:
        cost = source.choice([1, 3, 20])
        if not limit.hit(cost, now):
            taken += cost
        now += source.expovariate(100)
    assert 0.8 * 50 * 100 < taken <= 50 * 100 + 25


def test_more_than_a_burst_is_admitted_once_and_paid_off():
    limit = Limit("items", rate=10, burst=1)
    assert limit.hit(100, 0.0) == 0  # a full burst is there
    assert limit.test(1, 0.0) == pytest.approx(9.1)
    assert limit.test(100, 0.0) == pytest.approx(10)
    assert limit.hit(100, 10.0) == 0


def test_a_rate_below_one_a_second_lets_one_through():
    limit = Limit("requests", rate=0.1, burst=1)
    assert limit.hit(1, 0.0) == 0
    assert limit.hit(1, 0.0) == pytest.approx(10)


def test_the_fields():
    requests, items = Limit("requests", rate=10, burst=2), Limit("items", rate=0.5, burst=60)
    assert rate_fields([requests, items], 0.0) == [
        (b"ratelimit-policy", b'"requests";q=20;w=2, "items";q=30;w=60;qu="items"'),
        (b"ratelimit", b'"requests";r=20;t=2, "items";r=30;t=60'),
    ]
    for _ in range(20):
        requests.hit(1, 0.0)
    items.hit(25, 0.0)
    assert rate_fields([requests, items], 0.0)[1] == (b"ratelimit", b'"requests";r=0;t=1, "items";r=5;t=10')
    # No window ends after the time to retry.
    assert rate_fields([requests, items], 0.0, 3.0)[1] == (b"ratelimit", b'"requests";r=0;t=1, "items";r=5;t=3')


@pytest.mark.parametrize("rate", [0.001, 0.3, 1, 3, 7.7, 100, 12345])
def test_the_policy_never_promises_more_than_the_rate(rate: float):
    for burst in (0.1, 1, 2.5, 60):
        _, quota, window, *_ = Limit("requests", rate, burst).policy.split(";")
        assert int(quota[2:]) <= rate * int(window[2:]) + 1e-6
        assert int(quota[2:]) >= 1
