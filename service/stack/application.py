"""The application: FastAPI inside of one stack of layers that every request passes through, thin routes included.

This module and `dispatch` are the only ones that rely on undocumented parts of FastAPI and Starlette.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from service.inference.observers import Observers
from service.inference.repository import Repository
from service.metrics import Metrics
from service.settings import Settings
from service.stack.dispatch import Dispatch, ThinTable
from service.stack.failures import ErrorFormats
from service.tasks.threads import Threads


class Application(FastAPI):
    """A FastAPI application whose middleware covers the thin routes too.

    Args:
        settings: of the service.
        metrics: of the service.
        observers: are told of requests, calls and batches.
        errors: write the failures.
        layers: the outermost layers, the outermost first. `add_middleware` adds further ones inside of them, and
            inside of all is the dispatch between thin routes and FastAPI.
        options: as FastAPI takes them.

    Attributes:
        repository: the models; set at the start, as `threads` are.
        threads: for what takes long.
        ready: whether requests are wanted: from the end of the start to the beginning of the end.
        others_ready: likewise for other processes that serve the same port.
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
        layers: Sequence[Middleware],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.settings = settings
        self.metrics = metrics
        self.observers = observers
        self.errors = errors
        self.thin = ThinTable()
        self.ready = False
        self.others_ready: Callable[[], bool] = lambda: True
        self.failure: Exception | None = None
        self._layers = tuple(layers)

    def trouble(self) -> str | None:
        """What is wrong with a model that does not respond, in a sentence; None where all are well."""
        for version in self.repository.open_versions:
            if trouble := version.batcher.trouble(self.settings.timeout):
                return f"The model {version.label!r} is not responding: {trouble}."
        return None

    def measure_queues(self) -> None:
        """Sets the metrics of what waits for each model, and of events that were dropped."""
        self.metrics.events_dropped.set(self.observers.dropped)
        for version in self.repository.versions:
            self.metrics.queue_depth.labels(version.name, version.version).set(version.batcher.depth)

    def build_middleware_stack(self) -> ASGIApp:
        """See `Starlette.build_middleware_stack`, which would put the layers around FastAPI's routes alone."""
        added, self.user_middleware = self.user_middleware, []
        try:
            stack: ASGIApp = Dispatch(super().build_middleware_stack(), self.thin)
        finally:
            self.user_middleware = added
        for layer, arguments, keywords in reversed([*self._layers, *added]):
            stack = layer(stack, *arguments, **keywords)
        return stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
            return
        # FastAPI would add its telemetry and a root path, neither of which is used here.
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)
