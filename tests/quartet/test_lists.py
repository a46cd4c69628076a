"""Lists: order, bounds, and items that fail."""

import asyncio
import pickle
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from quartet import (
    BodyTooLargeError,
    InvalidItemError,
    InvalidRequestError,
    OverloadedError,
    QuartetError,
    UndecodableImageError,
)
from quartet.inputs import Prepared
from quartet.lists import Carrier


def prepare(item: object) -> Prepared:
    if item == "missing":
        error = InvalidItemError("is missing")
        error.name = "there/missing"
        raise error
    return Prepared(item, 3_000_000 if item == "large" else 1, name=f"name of {item}")


class Server:
    """Answers items with themselves; refuses some."""

    def __init__(self, most: int = 10) -> None:
        self.most = most
        self.requests: list[list[object]] = []
        self.running = self.peak = 0

    async def __call__(self, items: Sequence[Prepared]) -> list[object]:
        values = [item.value for item in items]
        self.requests.append(values)
        self.running += 1
        self.peak = max(self.peak, self.running)
        # Later ones answer sooner.
        await asyncio.sleep(0.002 / len(self.requests))
        self.running -= 1
        if len(values) > self.most:
            raise BodyTooLargeError({"status": 413})
        for index, value in enumerate(values):
            if value == "bad":
                raise UndecodableImageError({"status": 422, "detail": "Is bad.", "index": index})
            if value == "busy":
                raise OverloadedError({"status": 429})
        return values


def carrier(server: Server, errors: str = "raise", most: int = 10) -> Carrier:
    return Carrier(prepare, server, most=most, concurrency=3, errors=errors, progress=False)  # type: ignore[arg-type]


async def test_answers_are_in_order_and_requests_bounded():
    server = Server()
    assert await carrier(server).carry(iter(range(95)), None) == list(range(95))
    assert len(server.requests) == 10
    assert server.peak == 3


async def test_a_request_is_bounded_in_bytes():
    server = Server()
    await carrier(server).carry(["large"] * 5, 5)
    assert sorted(map(len, server.requests)) == [1, 2, 2]


async def test_items_are_taken_as_they_are_needed():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield "busy" if taken == 50 else taken

    with pytest.raises(OverloadedError):
        await carrier(Server()).carry(endless(), None)
    assert taken < 200


async def test_a_bad_item_fails_alone():
    items = [*range(8), "bad", "missing", "bad", *range(8)]
    answers = await carrier(Server(), "return").carry(items, None)
    assert [each for each in answers if not isinstance(each, QuartetError)] == [*range(8), *range(8)]
    first, missing, second = answers[8:11]
    assert isinstance(first, UndecodableImageError)
    assert (first.index, first.name, str(first)) == (8, "name of bad", "name of bad: Is bad.")
    assert isinstance(missing, InvalidItemError)
    assert str(missing) == "there/missing: is missing"
    assert second.index == 10


async def test_a_bad_item_ends_the_call_and_what_was_answered_is_kept():
    with pytest.raises(UndecodableImageError) as raised:
        await carrier(Server(), most=1).carry([*range(40), "bad"], None)
    assert raised.value.index == 40
    assert raised.value.results is not None
    assert raised.value.results[:30] == list(range(30))


async def test_a_request_that_is_too_large_is_halved():
    server = Server(most=3)
    assert await carrier(server).carry(range(10), 10) == list(range(10))
    with pytest.raises(BodyTooLargeError) as raised:
        await carrier(Server(most=0)).carry(["x"], 1)
    assert raised.value.index == 0


async def test_what_is_about_the_whole_request_ends_the_call_even_so():
    with pytest.raises(OverloadedError):
        await carrier(Server(), "return").carry(["busy", 1], 2)


async def test_the_callers_own_error_is_the_callers():
    def broken():
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await carrier(Server()).carry(broken(), None)


async def test_answers_are_yielded_as_they_arrive():
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async with aclosing(carrier(Server()).stream(endless(), None)) as stream:
        assert [await anext(stream) for _ in range(25)] == list(range(1, 26))
    # Two requests for each of three slots, one that waits for room and one that is being read.
    assert taken <= 25 + 10 * (2 * 3 + 2)


async def test_a_stream_ends_at_an_item_that_fails_behind_the_answers_before():
    stream = carrier(Server(), most=1).stream([0, 1, "missing", 2], None)
    assert [await anext(stream), await anext(stream)] == [0, 1]
    with pytest.raises(InvalidItemError) as raised:
        await anext(stream)
    assert raised.value.index == 2


async def test_nothing_is_asked_for_no_items():
    server = Server()
    assert await carrier(server).carry([], 0) == []
    assert server.requests == []


def test_errors_takes_two_values():
    with pytest.raises(ValueError, match="'raise' or 'return'"):
        carrier(Server(), "ignore")


def test_errors_travel_between_processes():
    error = InvalidRequestError({"status": 422, "detail": "No."})
    error.index = 3
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.index) == (InvalidRequestError, "item 3: No.", 3)
