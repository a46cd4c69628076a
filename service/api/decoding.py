"""Large images are decoded on threads; what would come too late is refused, what nobody waits for is not begun."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from service.api.exchange import Exchange
from service.errors import ClientDisconnected, DeadlineExceeded, Overloaded

Result = TypeVar("Result")


class Decoder:
    """Runs the decoding of one image after the other, and knows how long the wait is.

    Args:
        pool: runs the work.
        threads: of it.
    """

    def __init__(self, pool: Executor, threads: int) -> None:
        self._pool = pool
        self._threads = threads
        self._waiting = 0
        self._seconds = 0.0

    def admit(self, timeout: float) -> None:
        """Refuses a request whose images would not be decoded in time.

        Raises:
            Overloaded: what waits already takes longer than `timeout` seconds.
        """
        wait = self._waiting * self._seconds / self._threads
        if wait > timeout:
            raise Overloaded(
                f"{self._waiting} images wait to be decoded, which takes about {wait:.1f} s: try again later.",
                retry_after=wait - timeout,
            )

    async def run(self, exchange: Exchange, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `work`, run on a thread.

        Raises:
            DeadlineExceeded: no thread was free in time.
            ClientDisconnected: the client hung up meanwhile.
        """
        exchange.check_client()
        deadline = time.monotonic() + exchange.settings.timeout
        self._waiting += 1
        try:
            seconds, result = await asyncio.get_running_loop().run_in_executor(
                self._pool, _work, exchange, deadline, work, arguments
            )
        finally:
            self._waiting -= 1
        self._seconds += (seconds - self._seconds) * (0.1 if self._seconds else 1.0)
        return result


def _work(
    exchange: Exchange, deadline: float, work: Callable[..., Result], arguments: tuple[Any, ...]
) -> tuple[float, Result]:
    if exchange.left:
        raise ClientDisconnected
    started = time.monotonic()
    if started > deadline:
        raise DeadlineExceeded("The image was not decoded in time: try again later, or allow more time.")
    result = work(*arguments)
    return time.monotonic() - started, result
