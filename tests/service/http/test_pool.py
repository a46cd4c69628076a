"""Which connection gives way to a new one, and how much work starts in a step of the event loop."""

import asyncio
import time

from service.http.pool import Pool, Throttle


class Busy:
    """A connection that has been busy for some seconds."""

    def __init__(self, seconds: float, waits_for_client: bool) -> None:
        self.since = time.monotonic() - seconds
        self.waits_for_client = waits_for_client
        self.ended: list[int] = []

    def idle_seconds(self, now: float) -> float:
        return 0.0

    def close(self) -> None:
        raise AssertionError("it is busy")

    def refuse(self, status: int, why: str) -> None:
        self.ended.append(status)


class Idle:
    """A connection without a request for some seconds."""

    waits_for_client = False

    def __init__(self, seconds: float) -> None:
        self.closed = False
        self.since = time.monotonic() - seconds

    def close(self) -> None:
        self.closed = True

    def idle_seconds(self, now: float) -> float:
        return now - self.since

    def refuse(self, status: int, why: str) -> None:
        raise AssertionError("it has no request")


def test_the_connection_idle_for_longest_gives_way_but_none_that_was_used_just_now():
    pool = Pool(2)
    used, older, newer = Idle(0.1), Idle(30), Idle(3)
    for each in (used, older):
        assert pool.join(each)
        pool.idle[each] = None
    pool.idle[newer] = None
    assert pool.join(newer)
    assert [each.closed for each in (used, older, newer)] == [False, True, False]
    pool.leave(older)
    assert pool.join(Idle(0))
    assert newer.closed
    pool.leave(newer)
    assert not pool.join(Idle(0))
    assert not used.closed


def test_without_an_idle_connection_the_slowest_client_gives_way():
    connections = [Busy(90, False), Busy(20, True), Busy(60, True)]

    def full(most: int, *others: Busy) -> bool:
        pool = Pool(most)
        return [pool.join(each) for each in (*connections, *others)][-1]

    assert full(3)
    assert [each.ended for each in connections] == [[], [], []]
    assert full(3, Busy(0, False))
    assert [each.ended for each in connections] == [[], [], [408]]
    assert not Pool(0).join(Busy(90, False))
    assert not Pool(0).join(Busy(1, True))  # neither waits for a slow client


async def test_a_throttle_starts_a_few_in_each_step_in_order_and_without_those_cancelled():
    throttle, started = Throttle(8), []
    for number in range(20):
        throttle.request(number, lambda number=number: started.append(number))
    throttle.cancel(9)
    steps = []
    for _ in range(4):
        steps.append(len(started))
        await asyncio.sleep(0)
    assert steps == [8, 16, 19, 19]
    assert started == [*range(9), *range(10, 20)]
    throttle.request(9, lambda: started.append(9))
    assert started[-1] == 9
