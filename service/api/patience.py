"""Waiting for room in a queue, for a request whose work has begun: a new one is refused there, at no loss."""

import asyncio
import time

from service.errors import Overloaded


class Patience:
    """How long a request goes on asking for room.

    Args:
        seconds: in all, without any success in between.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def rewarded(self) -> None:
        """There was room."""
        self._since = None

    async def wait(self, refusal: Overloaded) -> None:
        """Returns when it is time to ask again.

        Raises:
            Overloaded: `refusal`, if the patience has ended.
        """
        now = time.monotonic()
        self._since = self._since or now
        left = self._since + self._seconds - now
        if left <= 0:
            raise refusal
        await asyncio.sleep(min(left, 1.0, max(0.01, refusal.retry_after or 0.0)))
