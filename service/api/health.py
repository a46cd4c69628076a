"""Probes for an orchestrator, and /metrics for Prometheus.

A probe needs no key, so it names no models: the log does.
"""

import logging
from collections.abc import Iterator, Mapping
from copy import copy

from fastapi import APIRouter, Request, Response
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from pydantic import BaseModel, Field

from service.access.caller import key_of
from service.access.keys import Key
from service.errors import Draining, ModelBroken
from service.stack.application import Application
from service.stack.problems import responses

logger = logging.getLogger(__name__)

router = APIRouter(tags=["operations"])
metrics_router = APIRouter(tags=["operations"])
# Prometheus sends half as many characters. The response repeats the version from the header.
_LONGEST_ACCEPT = 512


class Health(BaseModel):
    """A probe's answer."""

    status: str = Field(examples=["ready"])


@router.get("/healthz/live", summary="Is the process alive?", response_model=Health, responses=responses(500, 503))
async def get_liveness(request: Request) -> Health:
    """200 while the event loop runs and every model responds; 503: only a restart helps."""
    _check_models(request)
    return Health(status="live")


@router.get("/healthz/ready", summary="May it get traffic?", response_model=Health, responses=responses(500, 503))
async def get_readiness(request: Request) -> Health:
    """200 once every model is loaded and warm; 503 while the server shuts down, or if it is not live."""
    if not request.app.ready:
        raise Draining("The server is shutting down: send requests to another one.")
    if not request.app.others_ready():
        raise Draining("Not all processes of the server are ready: send requests to another one.")
    _check_models(request)
    if request.app.repository.unready:
        raise ModelBroken("A model has no version that can answer: the log says which one and why.")
    return Health(status="ready")


def _check_models(request: Request) -> None:
    if trouble := request.app.trouble():
        logger.error("%s Restart the server.", trouble)
        raise ModelBroken("A model is not responding, and only a restart helps: the log says which one and why.")


@metrics_router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        **responses(500),
        200: {"content": {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {}}},
    },
)
async def get_metrics(request: Request) -> Response:
    """Requests, latency, batches, queues, refusals and devices, in Prometheus' text format or OpenMetrics."""
    app = request.app
    app.observers.flush()
    app.measure()
    accept = request.headers.get("accept", "")
    key = key_of(request.scope)
    shown = app.metrics.exposed if key is None or key.models is None else _Visible(app.metrics.exposed, key)
    try:
        return await _expose(app, shown, accept if len(accept) <= _LONGEST_ACCEPT else "")
    except Exception:  # the library raises on a version that it cannot parse
        return await _expose(app, shown, "")


class _Visible(Collector):
    """The metrics without those of models that a key may not know of, and of other keys."""

    def __init__(self, registry: Collector, key: Key) -> None:
        self._registry = registry
        self._key = key

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            shown = copy(metric)
            shown.samples = [sample for sample in metric.samples if self._shows(sample.labels)]
            yield shown

    def _shows(self, labels: Mapping[str, str]) -> bool:
        model = labels.get("model")
        return (model is None or self._key.sees(model)) and labels.get("key", self._key.name) == self._key.name


async def _expose(app: Application, registry: Collector, accept: str) -> Response:
    encode, media_type = choose_encoder(accept)
    # Summing the counters of several processes takes tens of milliseconds.
    return Response(await app.threads.run(encode, registry), media_type=media_type)
