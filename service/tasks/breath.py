"""Long loops on the event loop that let it serve others in between."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")

_BREATH = 128


async def map_with_pauses(function: Callable[..., Result], *columns: Iterable[Any]) -> list[Result]:
    """What `function` gives for each row of some columns of one length, with a pause after every 128."""
    results = []
    for row in zip(*columns, strict=True):
        results.append(function(*row))
        if len(results) % _BREATH == 0:
            await asyncio.sleep(0)
    return results
