"""The budget of bytes: large bodies share what there is, and a small one always finds room."""

from typing import Any

import pytest

from service.errors import Overloaded
from service.stack.limits import BodyBudget, Limits


def test_a_request_may_hold_as_much_as_is_still_free():
    budget = BodyBudget(100)
    budget.check(100, 0)
    budget.used = 60
    budget.check(40, 0)
    with pytest.raises(Overloaded, match="fill 0 MB already"):
        budget.check(41, 0)
    with pytest.raises(Overloaded) as refusal:
        budget.check(11, 30)
    assert refusal.value.hang_up
    assert refusal.value.retry_after


@pytest.mark.parametrize("large", [1, 2, 10, 100])
def test_however_many_large_bodies_come_a_small_one_finds_room(large: int):
    budget = BodyBudget(1_000_000)
    held = [0] * large
    for _ in range(2000):  # each brings a kilobyte at a time for as long as it may
        for index in range(large):
            try:
                budget.check(1000, held[index])
            except Overloaded:
                continue
            budget.used += 1000
            held[index] += 1000
    assert max(held) - min(held) <= 1000
    budget.check(1_000_000 // (large + 2) - 1000, 0)


class App:
    """Reads the body, and remembers what the budget said meanwhile."""

    def __init__(self, budget: BodyBudget, fail: bool = False) -> None:
        self.budget = budget
        self.fail = fail
        self.used: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            self.used.append(self.budget.used)
        self.used.append(self.budget.used)
        if self.fail:
            raise RuntimeError("broken")


def scope_of_small(length: int) -> dict[str, Any]:
    return scope("POST", (b"content-length", b"%d" % length))


async def test_a_small_body_of_a_stated_length_is_not_counted():
    budget = BodyBudget(100)
    app = App(budget)
    await Limits(app, budget, 1_000_000)(scope_of_small(60_000), receiver(b"x" * 60_000), None)
    assert app.used == [0]
    with pytest.raises(Overloaded):
        budget.check(70_000, 0)


def scope(method: str = "POST", *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "method": method, "headers": list(headers), "path": "/", "query_string": b""}


def receiver(*bodies: bytes) -> Any:
    messages = iter({"body": body, "more_body": index + 1 < len(bodies)} for index, body in enumerate(bodies))

    async def receive() -> Any:
        return next(messages)

    return receive


async def test_bytes_count_from_their_arrival_to_the_end_of_the_request():
    budget = BodyBudget(1000)
    app = App(budget)
    await Limits(app, budget, 1000)(scope(), receiver(b"x" * 10, b"", b"y" * 20), None)
    assert app.used == [10, 10, 30]
    assert budget.used == 0


async def test_they_are_given_back_when_a_request_fails_too():
    budget = BodyBudget(1000)
    with pytest.raises(RuntimeError, match="broken"):
        await Limits(App(budget, fail=True), budget, 1000)(scope(), receiver(b"x" * 10), None)
    assert budget.used == 0


async def test_a_body_that_grows_too_large_is_refused_on_the_way():
    budget = BodyBudget(100)
    app = App(budget)
    with pytest.raises(Overloaded):
        await Limits(app, budget, 1000)(scope(), receiver(*[b"x" * 20] * 10), None)
    assert app.used == [20, 40, 60]  # of 100: it may hold 60 while 60 are free, but not 80 while 40 are
    assert budget.used == 0


async def test_a_request_without_a_body_is_not_counted():
    budget = BodyBudget(100)
    app = App(budget)
    await Limits(app, budget, 1000)(scope("GET"), receiver(b"x" * 500), None)
    assert app.used == [0]
