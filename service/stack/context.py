"""The outermost layer: an id, a log line and a measurement for every request, and an answer to whatever fails."""

import asyncio
import functools
import itertools
import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import Draining, QuartetError
from service.metrics import Metrics
from service.stack.failures import INTERNAL, send_failure
from service.stack.log import RequestLog

logger = logging.getLogger("service.requests")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
# A browser is to take an answer for what its content type says.
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class RequestContext:
    """Gives each request its id and its facts: `scope["quartet.id"]`, `scope["quartet.facts"]`.

    Args:
        app: what is inside of it.
        metrics: where requests are counted.
        log: takes a request's facts, for its line in the log; None for no line.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: RequestLog | None) -> None:
        self._app = app
        self._log = log
        self._refused = metrics.refused
        # Resolving a metric's labels costs more than counting.
        self._count = functools.lru_cache(maxsize=1024)(metrics.requests.labels)
        self._latency = functools.lru_cache(maxsize=256)(metrics.latency.labels)
        self._prefix = secrets.token_hex(3).encode()
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        request_id = self._id(scope)
        scope["quartet.id"] = request_id.decode()
        facts: dict[str, object] = {}
        scope["quartet.facts"] = facts
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id), _NOSNIFF]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # Uvicorn cancels what is left when the server ends and has waited as long as it was told to.
            if status or scope["app"].ready:
                raise
            late = Draining("The server shut down before the answer was ready: send the request to another one.")
            await send_failure(late, scope, send_with_id)
        except Exception:
            if facts.get("client") == "gone":  # some layers find it wrong that nothing was answered
                return None
            if status:
                facts.setdefault("problem", QuartetError.slug)
                logger.error("request %s failed while it was being answered", scope["quartet.id"])
                raise
            logger.exception("request %s failed", scope["quartet.id"])
            await send_failure(INTERNAL, scope, send_with_id)
        finally:
            self._record(scope, facts, status, time.perf_counter() - started)

    def _id(self, scope: Scope) -> bytes:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _ACCEPTABLE_ID.fullmatch(value):
                return bytes(value)
        return b"%s-%x" % (self._prefix, next(self._numbers))

    def _record(self, scope: Scope, facts: dict[str, object], status: int, seconds: float) -> None:
        # The route's pattern, not the path: a stranger's paths must not become label values.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._count(route, method, status).inc()
        self._latency(route).observe(seconds)
        if "problem" in facts:
            self._refused.labels(route, facts["problem"]).inc()
        if self._log is not None:
            self._log.write(scope, facts, status, seconds)
