"""The outermost layer: an id, a log line and a measurement for every request; the short way to the thin routes."""

import asyncio
import functools
import itertools
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.metrics import Metrics
from service.api.problems import send_problem
from service.api.thin import ThinRoute
from service.errors import Draining, QuartetError

logger = logging.getLogger("service.requests")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")


class Front:
    """Wraps the whole application.

    Args:
        app: everything else.
        routes: the thin routes by path, which are answered without passing through `app`.
        metrics: where requests are counted.
        requests: takes a request's facts, for its line in the log; None for no line.
    """

    def __init__(
        self, app: ASGIApp, routes: Mapping[str, ThinRoute], metrics: Metrics, requests: "RequestLog | None"
    ) -> None:
        self._app = app
        self._routes = routes
        self._requests = requests
        self._refused = metrics.refused
        # Resolving a metric's labels costs more than counting.
        self._count = functools.lru_cache(maxsize=1024)(metrics.requests.labels)
        self._latency = functools.lru_cache(maxsize=256)(metrics.latency.labels)
        self._prefix = secrets.token_hex(3)
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
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        route = self._routes.get(scope["path"])
        try:
            if route is not None and scope["method"] in (route.methods or ()):
                await route.handle(scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # Uvicorn cancels what is left when the server ends and has waited as long as it was told to.
            if status or scope["app"].state.ready:
                raise
            late = Draining("The server shut down before the answer was ready: send the request to another one.")
            await send_problem(late, scope, send_with_id)
        except Exception:
            logger.exception("request %s failed", scope["quartet.id"])
            if status:
                facts.setdefault("problem", QuartetError.slug)
                raise
            error = QuartetError("Something failed inside the server; its log has the details under this request's id.")
            await send_problem(error, scope, send_with_id)
        finally:
            self._record(scope, facts, status, time.perf_counter() - started)

    def _id(self, scope: Scope) -> bytes:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _ACCEPTABLE_ID.fullmatch(value):
                return bytes(value)
        return b"%s-%x" % (self._prefix.encode(), next(self._numbers))

    def _record(self, scope: Scope, facts: dict[str, object], status: int, seconds: float) -> None:
        # The route's pattern, not the path: a stranger's paths must not become label values.
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._count(route, method, status).inc()
        self._latency(route).observe(seconds)
        if "problem" in facts:
            self._refused.labels(route, facts["problem"]).inc()
        if self._requests is not None:
            self._requests.write(scope, facts, status, seconds)


class RequestLog:
    """One line per request, gathered and written together: a write for every line would cost more than the rest.

    Args:
        loop: runs the writes.
        stream: a text stream.
    """

    def __init__(self, loop: Any, stream: Any) -> None:
        self._loop = loop
        self._stream = stream
        self._lines: list[str] = []
        self._second = 0
        self._stamp = ""

    def write(self, scope: Scope, facts: Mapping[str, object], status: int, seconds: float) -> None:
        """Notes one request; the line reaches the stream within 50 ms."""
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        more = "".join(f" {name}={value}" for name, value in facts.items())
        path = scope["path"]
        if not path.isprintable() or " " in path:
            path = ascii(path).replace(" ", "\\x20")
        self._lines.append(
            f"{self._stamp}.{int(now * 1000) % 1000:03d}Z info request id={scope['quartet.id']}"
            f" {scope['method']} {path} status={status} ms={seconds * 1000:.2f}{more}\n"
        )
        if len(self._lines) == 1:
            self._loop.call_later(0.05, self.flush)

    def flush(self) -> None:
        """Writes what has gathered."""
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("".join(lines))
            self._stream.flush()
