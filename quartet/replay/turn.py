"""When a captured item is sent again, and how long its answer takes."""

import asyncio
import time


class Turn:
    """An item's turn.

    Args:
        due: monotonic time when its request is to be sent; None for as soon as it can be.

    Attributes:
        late: seconds by which it was sent too late.
        seconds: from the time when it was due until it was answered.
    """

    def __init__(self, due: float | None) -> None:
        self._due = due
        self.late = self.seconds = 0.0

    async def start(self) -> None:
        """Waits until the request is due."""
        now = time.monotonic()
        if self._due is None:
            self._due = now
        await asyncio.sleep(max(0.0, self._due - now))
        self.late = time.monotonic() - self._due

    def end(self) -> None:
        """Notes that the answer has come."""
        self.seconds = time.monotonic() - (self._due or 0.0)
