"""Long loops on the event loop that yield to other tasks and stop when the call is cancelled."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from service.inference.call import QueuedCall

Result = TypeVar("Result")

# The longest time between two yields.
_LONGEST_SECONDS = 0.005
# A longer call has its connection watched.
_SLOW_SECONDS = 0.05


class Pauses:
    """Decides when a loop that works for a call yields."""

    def __init__(self, call: QueuedCall) -> None:
        self._call = call
        self._began = self._last = time.perf_counter()

    @property
    def due(self) -> bool:
        """Whether to `take` a pause now."""
        return time.perf_counter() - self._last > _LONGEST_SECONDS

    async def take(self) -> None:
        """Yields to the event loop.

        Raises:
            Abandoned: the client has disconnected.
            DeadlineExceeded: the call's deadline has passed.
        """
        if time.perf_counter() - self._began > _SLOW_SECONDS:
            self._call.slow()
        self._call.check()
        await asyncio.sleep(0)
        self._last = time.perf_counter()


async def map_with_pauses(call: QueuedCall, function: Callable[..., Result], *columns: Iterable[Any]) -> list[Result]:
    """Like `map(function, *columns)` with pauses; the columns must have the same length."""
    results = []
    pauses = Pauses(call)
    for row in zip(*columns, strict=True):
        results.append(function(*row))
        if pauses.due:
            await pauses.take()
    return results
