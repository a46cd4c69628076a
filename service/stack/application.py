"""The application: FastAPI and the model endpoints, inside one stack of layers."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from service.inference.observers import Observers
from service.inference.repository import Repository
from service.metrics import Metrics
from service.settings import Settings
from service.stack.context import RequestContext
from service.stack.dispatch import Dispatch
from service.stack.endpoint import Endpoint
from service.stack.failures import ErrorFormats
from service.tasks.threads import Threads


class Application(FastAPI):
    """A FastAPI application whose middleware surrounds the model endpoints too.

    Starlette puts middleware between two layers of its own. Those would cost an endpoint 7 % of the time that a
    request for a trivial network takes, so the stack here surrounds FastAPI as a whole.

    Args:
        settings: of the service.
        metrics: of the service.
        observers: are told of requests, calls and batches.
        errors: write the failures.
        endpoints: run models.
        options: FastAPI's.

    Attributes:
        repository: the models; set at the start, as `threads` are.
        threads: for slow work.
        ready: whether the server accepts requests: from the end of its start to the beginning of its shutdown.
        others_ready: whether the other processes on the same port do.
        failure: why it did not start.
    """

    repository: Repository
    threads: Threads

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        observers: Observers,
        errors: ErrorFormats,
        endpoints: Iterable[Endpoint],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._layers: ASGIApp = Dispatch(super().__call__, endpoints)
        self._context = RequestContext(self._inside, observers)
        for endpoint in endpoints:
            # Starlette takes any ASGI application here; its type names functions alone.
            self.add_route(endpoint.path, cast(Any, endpoint))
        self.settings = settings
        self.metrics = metrics
        self.observers = observers
        self.errors = errors
        self.ready = False
        self.others_ready: Callable[[], bool] = lambda: True
        self.failure: Exception | None = None

    def add_middleware(self, middleware_class: Callable[..., ASGIApp], *arguments: Any, **options: Any) -> None:
        """Adds a layer around all others but `RequestContext`; see `Starlette.add_middleware`."""
        self._layers = middleware_class(self._layers, *arguments, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._context(scope, receive, send)

    def _inside(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._layers(scope, receive, send)

    def trouble(self) -> str | None:
        """Describes a model that does not respond; None if all do."""
        for version in self.repository.open_versions:
            if trouble := version.batcher.trouble(self.settings.timeout):
                return f"The model {version.label!r} is not responding: {trouble}."
        return None

    def measure_queues(self) -> None:
        """Sets the metrics of what waits for each model, and of events that were dropped."""
        self.metrics.events_dropped.set(self.observers.dropped)
        for version in self.repository.versions:
            self.metrics.queue_depth.labels(version.name, version.version).set(version.batcher.depth)
