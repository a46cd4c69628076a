"""Waiting for room: again and again, until it has been long enough."""

import asyncio

import pytest

from service.api.patience import Patience
from service.errors import Overloaded

FULL = Overloaded("Full.", retry_after=0.0)


async def test_it_ends_with_the_refusal_it_was_told_last():
    patience, asked = Patience(0.1), []

    async def ask_on() -> None:
        while True:
            await patience.wait(FULL)
            asked.append(FULL)

    with pytest.raises(Overloaded) as ended:
        await ask_on()
    assert ended.value is FULL
    assert 1 < len(asked) <= 10


async def test_room_renews_it():
    patience = Patience(0.05)
    for _ in range(4):
        await patience.wait(FULL)
        await asyncio.sleep(0.03)
        patience.rewarded()


async def test_it_waits_as_long_as_it_was_told_and_no_longer_than_it_may():
    patience, loop = Patience(0.2), asyncio.get_running_loop()
    begun = loop.time()
    await patience.wait(Overloaded("Full.", retry_after=0.05))
    assert loop.time() - begun >= 0.049
    await patience.wait(Overloaded("Full.", retry_after=60.0))
    with pytest.raises(Overloaded):
        await patience.wait(FULL)
