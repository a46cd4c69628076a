"""Wiring: settings and tasks in, an application with its models out."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import APIRouter, FastAPI

from quartet import __version__
from service import api
from service.api import documentation, health
from service.api.v1.models import models_router
from service.api.v1.operations import operation_endpoints
from service.api.v1.policy import policy_router
from service.api.v1.trials import trials_router
from service.api.v1.versions import versions_router
from service.inference.device import available_cpus
from service.inference.observers import Observers
from service.inference.opener import Opener
from service.lifecycle.lifecycle import Lifecycle
from service.models import policies_of, repository_of
from service.observe.log import RequestLog
from service.observe.metrics import Metrics
from service.processes.board import Board
from service.settings import Settings
from service.stack import failures
from service.stack.application import Application
from service.stack.endpoint import Endpoint
from service.stack.limits import BodyBudget, Limits
from service.stack.problems import problem_json
from service.tasks.registry import BUILT_IN, Registry
from service.tasks.threads import Threads
from service.web import page

_LAST_BATCH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Family:
    """Routes below one prefix that share an error format.

    Attributes:
        prefix: of all their paths, such as `/v1`.
        endpoints: run models.
        routers: ordinary FastAPI routes.
        errors: formats every failure below the prefix, also of paths without a route.
    """

    prefix: str
    endpoints: tuple[Endpoint, ...]
    routers: tuple[APIRouter, ...]
    errors: failures.ErrorFormat


def create_app(
    settings: Settings,
    registry: Registry = BUILT_IN,
    families: Sequence[Family] = (),
    opener: Opener | None = None,
    board: Board | None = None,
) -> Application:
    """The application; its lifespan loads the models and, at the end, finishes accepted work.

    Args:
        settings: of the service.
        registry: the tasks to serve.
        families: additional families of routes, beside /v1.
        opener: opens the models, and may have begun to; a new one by default.
        board: exchanges figures with the other processes of the service; by default there are none.
    """
    metrics = Metrics()
    logs = settings.log_level in ("debug", "info")
    lifecycle = Lifecycle(settings, registry.tasks, board or Board())
    log = [RequestLog(sys.stderr)] if logs else []
    observers = Observers([metrics, *log, lifecycle.shadows, lifecycle.canaries])
    routers = (policy_router(), trials_router(), versions_router(registry), models_router(registry))
    families = (Family("/v1", operation_endpoints(registry), routers, problem_json), *families)
    endpoints = [endpoint for family in families for endpoint in family.endpoints]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            app.repository = repository_of(settings, registry, observers=observers, opener=opener)
            app.repository.on_change = partial(_models_changed, app)
            lifecycle.begin(app.repository, policies_of(settings), observers)
            await app.repository.load_all()
        except Exception as error:
            app.failure = error
            raise
        app.threads = Threads(settings.threads or available_cpus())
        app.ready = True
        running = asyncio.create_task(lifecycle.run())
        yield
        app.ready = False
        running.cancel()
        await lifecycle.close()
        # Requests have had their time: no client is waiting for the remaining work.
        await app.repository.close(min(_LAST_BATCH_SECONDS, settings.shutdown_timeout))
        app.threads.close()
        observers.flush()

    app = Application(
        settings,
        metrics,
        observers,
        lifecycle,
        {family.prefix: family.errors for family in families},
        endpoints,
        docs_url=None,  # `documentation` has a page that needs no internet
        redoc_url=None,
        title="Quartet",
        version=__version__,
        summary="Neural networks behind a batching HTTP API.",
        description=api.__doc__,
        lifespan=lifespan,
    )
    # What holds for every request is a layer here, the innermost first.
    budget = BodyBudget(int(settings.max_memory_mb * 1_000_000))
    app.add_middleware(Limits, budget=budget, max_body=int(settings.max_body_mb * 1_000_000))
    failures.install(app)
    for family in families:
        for router in family.routers:
            app.include_router(router)
    app.include_router(health.router)
    documentation.install(app, registry)
    page.install(app)
    return app


def _models_changed(app: Application) -> None:
    documentation.forget(app)
    app.lifecycle.update()
    app.metrics.serve((version.batcher.label, version.device) for version in app.repository.versions)
