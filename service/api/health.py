"""Probes for an orchestrator, and /metrics for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel, Field

from service.errors import Draining, ModelBroken
from service.stack.application import Application
from service.stack.problems import responses

router = APIRouter(tags=["operations"])
# Prometheus sends half as many characters. The response repeats the version from the header.
_LONGEST_ACCEPT = 512


class Health(BaseModel):
    """A probe's answer."""

    status: str = Field(examples=["ready"])


@router.get("/healthz/live", summary="Is the process alive?", response_model=Health, responses=responses(500, 503))
async def live(request: Request) -> Health:
    """200 while the event loop runs and every model responds; 503: only a restart helps."""
    _check_models(request)
    return Health(status="live")


@router.get("/healthz/ready", summary="May it get traffic?", response_model=Health, responses=responses(500, 503))
async def ready(request: Request) -> Health:
    """200 once every model is loaded and warm; 503 while the server shuts down, or if it is not live."""
    if not request.app.ready:
        raise Draining("The server is shutting down: send requests to another one.")
    if not request.app.others_ready():
        raise Draining("Not all processes of the server are ready: send requests to another one.")
    _check_models(request)
    for name, why in request.app.repository.unready.items():
        raise ModelBroken(f"The model {name!r} is not ready: {why}.")
    return Health(status="ready")


def _check_models(request: Request) -> None:
    if trouble := request.app.trouble():
        raise ModelBroken(f"{trouble} Restart the server.")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        **responses(500),
        200: {"content": {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {}}},
    },
)
async def metrics(request: Request) -> Response:
    """Requests, latency, batches, queues, refusals and devices, in Prometheus' text format or OpenMetrics."""
    app = request.app
    app.observers.flush()
    app.measure_queues()
    accept = request.headers.get("accept", "")
    try:
        return await _expose(app, accept if len(accept) <= _LONGEST_ACCEPT else "")
    except Exception:  # the library raises on a version that it cannot parse
        return await _expose(app, "")


async def _expose(app: Application, accept: str) -> Response:
    encode, media_type = choose_encoder(accept)
    # Summing the counters of several processes takes tens of milliseconds.
    return Response(await app.threads.run(encode, app.metrics.exposed), media_type=media_type)
