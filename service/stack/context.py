"""The outermost layer: an id for every request, an event for observers, and an answer to whatever fails."""

import asyncio
import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Draining, QuartetError
from service.inference.observers import Observers
from service.inference.trace import Trace
from service.observe.events import RequestEnded
from service.stack.exchange import headers_of
from service.stack.failures import INTERNAL, send_failure

logger = logging.getLogger("service.requests")
# The browser must not guess another type than the one that is stated.
_NOSNIFF = (b"x-content-type-options", b"nosniff")
# Method, headers and monotonic time of a request to its trace, if it is sampled.
BeginTrace = Callable[[str, Mapping[bytes, bytes], float], Trace | None]
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class RequestContext:
    """Gives each request its id, its facts, and its trace if it is sampled.

    They are `scope["quartet.id"]`, `scope["quartet.facts"]` and `scope["quartet.trace"]`.

    Args:
        app: the layers inside.
        observers: receive a `RequestEnded` for each request.
        begin: begins the trace of a request, given method, headers and monotonic time; None without traces.

    Attributes:
        active: requests that are being answered.
    """

    def __init__(self, app: ASGIApp, observers: Observers, begin: BeginTrace | None = None) -> None:
        self._app = app
        self._observers = observers
        self._begin = begin
        self._prefix = secrets.token_hex(3).encode()
        self._numbers = itertools.count(1)
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.monotonic()
        headers = headers_of(scope)
        given = headers.get(b"x-request-id", b"")
        request_id = given if _ACCEPTABLE_ID.fullmatch(given) else b"%s-%x" % (self._prefix, next(self._numbers))
        scope["quartet.id"] = request_id.decode()
        facts: dict[str, object] = {}
        scope["quartet.facts"] = facts
        trace = self._begin(scope["method"], headers, started) if self._begin else None
        if trace is not None:
            scope["quartet.trace"] = trace
            facts["trace"] = f"{trace.span.get_span_context().trace_id:032x}"
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id), _NOSNIFF]
            await send(message)

        self.active += 1
        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # Uvicorn cancels the remaining requests at the end of the graceful shutdown.
            if status or scope["app"].ready:
                raise
            late = Draining("The server shut down before the answer was ready: send the request to another one.")
            await send_failure(late, scope, send_with_id)
        except Exception:
            if facts.get("client") == "gone":  # some layers raise if nothing was answered
                return None
            if status:
                facts.setdefault("problem", QuartetError.slug)
                logger.error("request %s failed while it was being answered", scope["quartet.id"])
                raise
            logger.exception("request %s failed", scope["quartet.id"])
            await send_failure(INTERNAL, scope, send_with_id)
        finally:
            self.active -= 1
            found = scope.get("route")
            # Without the convertors of its parameters, as the OpenAPI document has it.
            route = str(getattr(found, "path_format", None) or getattr(found, "path", "other"))
            seconds = time.monotonic() - started
            self._observers.publish(
                RequestEnded(
                    scope["quartet.id"], scope["method"], scope["path"], route, facts, status, seconds, time.time(),
                    trace,
                )
            )  # fmt: skip
