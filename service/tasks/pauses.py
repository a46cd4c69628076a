"""Long loops on the event loop: others are served in between, and the loop ends when nobody waits for it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from service.inference.scope import CallScope

Result = TypeVar("Result")

# The event loop serves others after so long.
_LONGEST_SECONDS = 0.005
# A call that takes longer has its client watched.
_SLOW_SECONDS = 0.05


class Pauses:
    """Decides when a loop that works for a call has to pause.

    Args:
        call: that the loop works for.
    """

    def __init__(self, call: CallScope) -> None:
        self._call = call
        self._began = self._last = time.perf_counter()

    @property
    def due(self) -> bool:
        """Whether it is time to `take` one."""
        return time.perf_counter() - self._last > _LONGEST_SECONDS

    async def take(self) -> None:
        """Lets the event loop serve others.

        Raises:
            Abandoned: nobody waits for the answer any more.
            DeadlineExceeded: the call has gone without progress for too long.
        """
        if time.perf_counter() - self._began > _SLOW_SECONDS:
            self._call.slow()
        self._call.check()
        await asyncio.sleep(0)
        self._last = time.perf_counter()


async def map_with_pauses(call: CallScope, function: Callable[..., Result], *columns: Iterable[Any]) -> list[Result]:
    """What `function` gives for each row of some columns of one length, for a call."""
    rows = list(zip(*columns, strict=True))
    if len(rows) == 1:
        return [function(*rows[0])]
    results = []
    pauses = Pauses(call)
    for row in rows:
        results.append(function(*row))
        if pauses.due:
            await pauses.take()
    return results
