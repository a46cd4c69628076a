"""Wiring: settings and tasks in, an application with its models out."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from starlette.types import Scope

from quartet import __version__
from quartet.extras import needs
from service import api
from service.access.gate import Gate
from service.access.keys import KeyRing
from service.access.start import ring_of
from service.api import documentation, health, problems
from service.api.v1.drift import drift_router
from service.api.v1.feedback import feedback_router
from service.api.v1.models import models_router
from service.api.v1.operations import operation_endpoints
from service.api.v1.policy import policy_router
from service.api.v1.status import status_router
from service.api.v1.trials import trials_router
from service.api.v1.versions import versions_router
from service.api.v2.errors import v2_error
from service.api.v2.routes import v2_endpoints, v2_router
from service.api.v2.statistics import Statistics
from service.capture.capture import Captures
from service.certificate import Certificate, certificate_of
from service.errors import QuartetError
from service.inference.device import available_cpus
from service.inference.observers import Observers
from service.inference.opener import Opener
from service.lifecycle.lifecycle import Lifecycle
from service.models import policies_of, repository_of
from service.observe.history import History
from service.observe.log import RequestLog, as_json
from service.observe.metrics import Metrics
from service.observe.state import State
from service.observe.traces import configured_tracing
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

if TYPE_CHECKING:
    from service.api.grpc.server import GrpcServer
    from service.observe.tracing import Tracing

logger = logging.getLogger("service")

_LAST_BATCH_SECONDS = 5.0
_FILES_SECONDS = 1.0


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
    ring: KeyRing | None = None,
    tracing: "Tracing | None" = None,
    certificate: Certificate | None = None,
) -> Application:
    """The application; its lifespan loads the models and, at the end, finishes accepted work.

    Args:
        settings: of the service.
        registry: the tasks to serve.
        families: additional families of routes, beside /v1.
        opener: opens the models, and may have begun to; a new one by default.
        board: exchanges figures with the other processes of the service; by default there are none.
        ring: the API keys; by default what the settings say.
        tracing: traces requests; by default as OpenTelemetry's environment variables configure it.
        certificate: of the server; by default what the settings say.

    Raises:
        InvalidKeys: the key file cannot be read or is invalid.
        InvalidCertificate: the same of the certificate.
    """
    ring = ring or ring_of(settings)
    certificate = certificate or certificate_of(settings)
    metrics = Metrics()
    logs = settings.log_level in ("debug", "info")
    board = board or Board()
    lifecycle = Lifecycle(settings, registry.tasks, board)
    log = [RequestLog(sys.stderr, json=as_json(settings))] if logs else []
    statistics = Statistics()
    tracing = tracing or configured_tracing()
    traces = [tracing] if tracing else []
    captures = Captures(
        settings.captures, registry.tasks, settings.max_pixels, board.shared, lambda event: observers.publish(event)
    )
    lifecycle.shadows.disagreed = captures.disagreed
    of_models = lifecycle.shadows, lifecycle.canaries, lifecycle.drifts, captures
    observers = Observers([metrics, *log, *of_models, statistics, *traces])
    budget = BodyBudget(int(settings.max_memory_mb * 1_000_000))
    history = History(board, metrics)
    routers = (
        *(policy_router(), trials_router(), drift_router(), versions_router(registry), models_router(registry)),
        *(feedback_router(), status_router(history)),
    )
    families = (
        Family("/v1", operation_endpoints(registry), routers, problem_json),
        Family("/v2", v2_endpoints(), (v2_router(statistics),), v2_error),
        *families,
    )
    endpoints = [endpoint for family in families for endpoint in family.endpoints]

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            policies = policies_of(settings)
            app.repository = repository_of(settings, registry, observers=observers, opener=opener, policies=policies)
            app.repository.on_change = partial(_models_changed, app)
            lifecycle.begin(app.repository, policies, observers)
            captures.begin()
            await app.repository.load_all()
        except Exception as error:
            app.failure = error
            raise
        app.threads = Threads(settings.threads or available_cpus())
        app.ready = True
        model_routes = {endpoint.path for endpoint in endpoints}
        running = [asyncio.create_task(lifecycle.run()), asyncio.create_task(history.run(app.measure, model_routes))]
        if followed := [each for each in (ring, certificate) if each]:
            running.append(asyncio.create_task(_follow(followed)))
        over_grpc = await _serve_grpc(app, ring, statistics)
        yield
        app.ready = False
        if over_grpc:
            await over_grpc.stop(settings.shutdown_timeout)
        for task in running:
            task.cancel()
        await lifecycle.close()
        # Requests have had their time: no client is waiting for the remaining work.
        await app.repository.close(min(_LAST_BATCH_SECONDS, settings.shutdown_timeout))
        app.threads.close()
        observers.flush()
        await captures.close()
        if tracing:
            await asyncio.to_thread(tracing.close)

    app = Application(
        settings,
        metrics,
        observers,
        lifecycle,
        budget,
        {family.prefix: family.errors for family in families},
        endpoints,
        tracing.begin if tracing else None,
        docs_url=None,  # `documentation` has a page that needs no internet
        redoc_url=None,
        openapi_url=None,
        title="Quartet",
        version=__version__,
        summary="Neural networks behind a batching HTTP API.",
        description=api.__doc__,
        license_info={"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.captures = captures
    app.certificate = certificate
    app.state_metrics = State(ring, certificate)
    metrics.registry.register(app.state_metrics)
    # What holds for every request is a layer here, the innermost first.
    app.add_middleware(Limits, budget=budget, max_body=int(settings.max_body_mb * 1_000_000))
    metrics_inside = settings.metrics_port is not None
    app.add_middleware(Gate, ring=ring, unknown=_unknown, refuse=failures.send_failure, metrics_inside=metrics_inside)
    if settings.cors_origins:
        app.allow_origins(settings.cors_origins)
    failures.install(app)
    for family in families:
        for router in family.routers:
            app.include_router(router)
    app.include_router(health.router)
    app.include_router(health.metrics_router, include_in_schema=not metrics_inside)
    documentation.install(app, registry, keyed=ring is not None)
    problems.install(app)
    page.install(app)
    return app


async def _serve_grpc(app: Application, ring: KeyRing | None, statistics: Statistics) -> "GrpcServer | None":
    """The gRPC server, if a port is set."""
    if app.settings.grpc_port is None:
        return None
    with needs("grpc"):
        from service.api.grpc.server import GrpcServer
    server = GrpcServer(app, ring, _unknown, statistics)
    port = await server.start(app.settings.host, app.settings.grpc_port, app.certificate)
    app.state.grpc_port = port
    logger.info("serving gRPC on %s:%d", app.settings.host, port)
    return server


def _models_changed(app: Application) -> None:
    documentation.forget(app)
    app.lifecycle.update()
    app.captures.update(app.repository.served)
    app.metrics.serve((version.batcher.label, version.device) for version in app.repository.versions)


async def _follow(files: Sequence[KeyRing | Certificate]) -> None:
    """Looks every second whether files have changed, on a thread: they may be on a slow volume."""
    while True:
        await asyncio.sleep(_FILES_SECONDS)
        for file in files:
            try:
                await asyncio.to_thread(file.refresh)
            except Exception:
                logger.exception("keys or certificate could not be followed; they stay as they were")


def _unknown(scope: Scope, name: str) -> QuartetError:
    error: QuartetError = scope["app"].repository.unknown(name)
    return error
