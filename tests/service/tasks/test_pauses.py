"""Long loops let others work, and end with the call."""

import asyncio
import time

import pytest

from service.errors import Abandoned, DeadlineExceeded
from service.inference.scope import CallScope
from service.tasks.pauses import map_with_pauses


def slowly(value: int) -> int:
    time.sleep(0.002)
    return value * 10


async def test_others_are_served_while_a_long_loop_runs():
    others = 0

    async def other() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    said: list[str] = []
    call = CallScope(on_slow=lambda: said.append("slow"))
    assert await map_with_pauses(call, slowly, range(50)) == [value * 10 for value in range(50)]
    task.cancel()
    assert others > 5
    assert said == ["slow"]


async def test_a_short_loop_never_pauses():
    before = asyncio.get_running_loop().time()
    assert await map_with_pauses(CallScope(on_slow=lambda: 1 / 0), lambda a, b: a + b, [1, 2], [3, 4]) == [4, 6]
    assert asyncio.get_running_loop().time() - before < 1


async def test_a_loop_ends_with_its_call():
    call = CallScope()
    asyncio.get_running_loop().call_later(0.02, call.cancel)
    with pytest.raises(Abandoned):
        await map_with_pauses(call, slowly, range(1000))
    with pytest.raises(DeadlineExceeded):
        await map_with_pauses(CallScope(timeout=0.02), slowly, range(1000))
