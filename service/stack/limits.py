"""How long a request's target may be, and how many bytes of bodies all requests together may hold in memory.

The budget of bytes is shared by dynamic thresholds (Choudhury and Hahne 1998): a request may hold as much as is still
free. A few large bodies may hold much, many of them little each, and there is always room for a small one.
"""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Overloaded, UriTooLong
from service.stack.exchange import SMALL_BYTES, stated_length
from service.stack.failures import send_failure

_RETRY_SECONDS = 2.0
# Parsing a target takes time on the event loop. RFC 9110 (4.1) recommends to support at least 8,000 bytes.
_MAX_TARGET_BYTES = 8000


class _NoRoom(Overloaded):
    hang_up = True


class BodyBudget:
    """Bytes of request bodies that are in memory now, and the most there may be."""

    def __init__(self, total: int) -> None:
        self._total = total
        self.used = 0

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Counts a body that is in memory already, unless it is small; raises Overloaded if there is no room for it."""
        counted = size if size > SMALL_BYTES else 0
        self.check(counted, 0)
        self.used += counted
        try:
            yield
        finally:
            self.used -= counted

    def check(self, more: int, held: int) -> None:
        """Refuses a request that holds `held` bytes and would hold `more`, if less than their sum is free."""
        if held + more > self._total - self.used:
            raise _NoRoom(
                f"The bodies of all requests fill {self.used / 1e6:.0f} MB already, which leaves no room for one of "
                f"{(held + more) / 1e6:.1f} MB: try again later, or send fewer items in a request.",
                retry_after=_RETRY_SECONDS,
            )


class Limits:
    """Refuses targets that are too long, and counts what the bodies of requests hold until they have been answered.

    Bodies of a stated length of at most 64 kB are not counted: the server may buffer that much of each connection
    anyway. A body over `max_body` bytes is left to its route, which refuses it.
    """

    def __init__(self, app: ASGIApp, budget: BodyBudget, max_body: int) -> None:
        self._app = app
        self._budget = budget
        self._max_body = max_body

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # The coroutine is returned, not awaited: one frame less.
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        if len(scope["path"]) + len(scope["query_string"]) > _MAX_TARGET_BYTES:
            why = f"The path and the query string are over {_MAX_TARGET_BYTES} bytes: send the input in the body."
            return send_failure(UriTooLong(why), scope, send)
        if scope["method"] == "GET":
            return self._app(scope, receive, send)
        declared = stated_length(scope)
        if 0 <= declared <= SMALL_BYTES:
            return self._app(scope, receive, send)
        return self._counting(declared, scope, receive, send)

    async def _counting(self, declared: int, scope: Scope, receive: Receive, send: Send) -> None:
        budget, held = self._budget, 0

        async def counted() -> Message:
            nonlocal held
            message = await receive()
            if more := len(message.get("body", b"")):
                budget.check(more, held)
                budget.used += more
                held += more
            return message

        try:
            if declared <= self._max_body:
                budget.check(max(0, declared), 0)
        except Overloaded as error:
            await send_failure(error, scope, send)
            return
        try:
            await self._app(scope, counted, send)
        finally:
            budget.used -= held
