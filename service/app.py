"""Wiring: settings in, a FastAPI application with its models out."""

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from service import __version__, api
from service.api import classify_text, code, detect, generate, health, models, predict, predict_tabular, problems
from service.api.front import Front, RequestLog
from service.api.images import ImagePipeline
from service.api.metrics import BatchObserver, Metrics
from service.api.thin import ThinRoute
from service.inference.repository import Repository
from service.inference.session import available_cpus
from service.settings import Settings
from service.tasks.companions import read_companion

_LAST_BATCH_SECONDS = 5.0
_INFERENCE = (predict, detect, generate, code, classify_text, predict_tabular)


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan loads the models and, at the end, finishes what was accepted."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        log = RequestLog(asyncio.get_running_loop(), sys.stderr) if settings.log_level in ("debug", "info") else None
        app.middleware_stack = Front(app.build_middleware_stack(), thin_routes(), metrics, log)
        app.state.repository = repository = Repository(
            settings.models,
            device=settings.device,
            threads=settings.threads,
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            observer=partial(BatchObserver, metrics),
            read_companion=read_companion,
            timeout=settings.timeout,
        )
        try:
            await load_models(app)
        except Exception as error:
            app.state.failure = error
            raise
        threads = available_cpus()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        app.state.images = ImagePipeline(pool, threads, metrics)
        app.state.ready = True
        yield
        app.state.ready = False
        # Requests have had their time: what still runs or decodes is for nobody.
        await repository.close(min(_LAST_BATCH_SECONDS, settings.shutdown_timeout))
        pool.shutdown(wait=False, cancel_futures=True)
        if log:
            log.flush()

    app = FastAPIOffline(
        redoc_url=None,
        title="Quartet",
        version=__version__,
        summary="Neural networks behind a batching HTTP API.",
        description=api.__doc__,
        lifespan=lifespan,
        # It looks at the environment at every request, and the thin routes would not be traced anyway.
        telemetry={"tracing": False, "metrics": False},
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.ready = False
    app.state.failure = None
    problems.install(app)
    for module in (*_INFERENCE, models, health):
        app.include_router(module.router)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app


async def load_models(app: FastAPI) -> None:
    """Serves the models on disk; called again, those that are new there, without a gap.

    Raises:
        NothingToServe: there is none that can be served.
        DeviceUnavailable: the device that was asked for cannot serve.
    """
    repository, metrics = app.state.repository, app.state.metrics
    await repository.load_all()
    code.show_length(repository.models)
    predict_tabular.show_columns(repository.models)
    app.openapi_schema = None
    metrics.device.clear()
    for model in repository.models.values():
        metrics.device.labels(model.name, model.version, model.device).set(1)


def thin_routes() -> dict[str, ThinRoute]:
    """Every thin route by its path."""
    routes = [route for module in _INFERENCE for route in module.router.routes]
    return {route.path: route for route in routes if isinstance(route, ThinRoute)}
