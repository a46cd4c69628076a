"""The application: FastAPI and the model endpoints, inside one stack of layers."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, cast

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from service.capture.capture import Captures
from service.certificate import Certificate
from service.inference.observers import Observers
from service.inference.repository import Repository
from service.lifecycle.lifecycle import Lifecycle
from service.observe.metrics import Metrics
from service.observe.state import State
from service.settings import Settings
from service.stack.context import BeginTrace, RequestContext
from service.stack.endpoint import Endpoint
from service.stack.failures import ErrorFormat
from service.stack.limits import BodyBudget
from service.tasks.threads import Threads

# Headers of answers that a page of another origin may read.
_EXPOSED = (
    *("X-Request-ID", "X-Seed", "Quartet-Model", "Quartet-Route", "Server-Timing", "Content-Disposition", "ETag"),
    *("Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate"),
)
# Probes are cheap, and must not wait behind the page's files.
_PROBES = "/healthz/"


class Dispatch:
    """The innermost layer: finds endpoints in a dictionary, without FastAPI's layers and routes.

    Endpoints whose path has parameters are compared one after the other. Requests to FastAPI start one after another,
    because the OpenAPI document and the metrics take milliseconds: between two of them the event loop serves others.
    """

    def __init__(self, app: ASGIApp, endpoints: Iterable[Endpoint]) -> None:
        self._app = app
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._patterns = [(compile_path(path), each) for path, each in self._endpoints.items() if "{" in path]
        self._turn = asyncio.Lock()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # The coroutine is returned, not awaited: one frame less.
        if scope["type"] != "http" or scope["path"].startswith(_PROBES):
            return self._app(scope, receive, send)
        if scope["method"] == "POST":
            path = scope["path"]
            if endpoint := self._endpoints.get(path):
                return endpoint(scope, receive, send)
            for (pattern, _, convertors), endpoint in self._patterns:
                if found := pattern.match(path):
                    scope["path_params"] = {
                        name: convertors[name].convert(value) for name, value in found.groupdict().items()
                    }
                    return endpoint(scope, receive, send)
        return self._in_turn(scope, receive, send)

    async def _in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._turn:
            await asyncio.sleep(0)
        await self._app(scope, receive, send)


class Application(FastAPI):
    """A FastAPI application whose middleware surrounds the model endpoints too.

    Starlette puts middleware between two layers of its own. Those would cost an endpoint 7 % of the time that a
    request for a trivial network takes, so the stack here surrounds FastAPI as a whole.

    Attributes:
        error_formats: by the prefix of a family's paths, such as `/v1`.
        begin_trace: begins the trace of a request; None without traces.
        repository: the models; set at the start, as `threads` are.
        threads: for slow work.
        captures: keeps inputs and answers, where policies say so.
        certificate: of the server; None without TLS.
        state_metrics: of the state of the service, which each process reports for itself.
        lifecycle: tries, judges and changes versions.
        budget: of the bodies of all requests in memory.
        ready: whether the server accepts requests: from the end of its start to the beginning of its shutdown.
        others_ready: whether the other processes on the same port do.
        failure: why it did not start.
    """

    repository: Repository
    threads: Threads
    captures: Captures
    certificate: Certificate | None
    state_metrics: State

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        observers: Observers,
        lifecycle: Lifecycle,
        budget: BodyBudget,
        error_formats: Mapping[str, ErrorFormat],
        endpoints: Iterable[Endpoint],
        begin_trace: BeginTrace | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._layers: ASGIApp = Dispatch(super().__call__, endpoints)
        self._context = RequestContext(self._inside, observers, begin_trace)
        self._outermost: ASGIApp = self._context
        self._dropped = 0
        for endpoint in endpoints:
            # Starlette takes any ASGI application here; its type names functions alone.
            self.add_route(endpoint.path, cast(Any, endpoint))
        self.settings = settings
        self.metrics = metrics
        self.observers = observers
        self.lifecycle = lifecycle
        self.budget = budget
        self.error_formats = error_formats
        self.begin_trace = begin_trace
        self.ready = False
        self.others_ready: Callable[[], bool] = lambda: True
        self.failure: Exception | None = None

    def add_middleware(self, middleware_class: Callable[..., ASGIApp], *arguments: Any, **options: Any) -> None:
        """Adds a layer around all others but `RequestContext`; see `Starlette.add_middleware`."""
        self._layers = middleware_class(self._layers, *arguments, **options)

    def allow_origins(self, origins: Collection[str]) -> None:
        """Lets web pages of other origins call the API (CORS). `*` stands for all, since nothing relies on cookies.

        This is the outermost layer: a preflight carries no key, and every failure has to reach the page.
        """
        self._outermost = CORSMiddleware(
            self._outermost,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
            allow_headers=("*",),
            expose_headers=_EXPOSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._outermost(scope, receive, send)

    def _inside(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._layers(scope, receive, send)

    def trouble(self) -> str | None:
        """Describes a model that does not respond; None if all do.

        A version that fails at everything is no reason to end the process if it is only tried, or one of several.
        """
        answering = set(self.repository.models.values())
        for version in self.repository.open_versions:
            if trouble := version.batcher.trouble(self.settings.timeout, failing=version in answering):
                return f"The model {version.label!r} is not responding: {trouble}."
        return None

    def measure(self) -> None:
        """Sets the metrics of requests that are being answered, of events that were dropped, and of the models."""
        self.metrics.in_flight.set(self._context.active)
        self.metrics.events_dropped.inc(self.observers.dropped - self._dropped)
        self._dropped = self.observers.dropped
        self.state_metrics.measure(self.repository, self.lifecycle.drifts.reports)
        for version in self.repository.versions:
            self.metrics.queue_depth.labels(*version.batcher.label).set(version.batcher.depth)
