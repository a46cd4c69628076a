"""GET /v1/status: the last hour of the main figures, for the page and for servers without Prometheus."""

import gzip
from collections.abc import Mapping
from functools import partial
from typing import Annotated

import fastapi
import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.access.caller import models_of, visible
from service.api.headers import cacheable
from service.observe.figures import PROBLEMS, Rows, numbers, quantile
from service.observe.history import STEP, History
from service.stack.problems import responses

# Answers of the newest row that are kept, for several viewers.
_MOST_ANSWERS = 8

_Series = Annotated[
    list[float | None], Field(description="a value for each of `times`; null where nothing was counted")
]


class Quantiles(BaseModel):
    """Quantiles in seconds."""

    p50: _Series
    p95: _Series
    p99: _Series


class Memory(BaseModel):
    """Bytes at the end of each period."""

    resident: _Series = Field(description="of all processes")
    available: _Series = Field(description="what a process can still take, of the machine and its limits")
    gpu_free: _Series = Field(description="of the GPU with the least free memory; null without one")


class Queue(BaseModel):
    """The work of a model, or of all models."""

    waiting: _Series = Field(description="items that wait, at the end of each period")
    wait: Quantiles = Field(description="an item's wait for its batch")
    batch_size: _Series = Field(description="mean number of items in a batch")
    batch: Quantiles = Field(description="running a batch")
    items: _Series = Field(description="items that were run, per second")
    dropped: _Series = Field(description="items that left the queue without being run, per second")


class ModelHour(BaseModel):
    """A model over the whole time."""

    name: str = Field(examples=["classifier"])
    items: float = Field(description="that were run")
    batch_size: float | None = Field(description="mean number of items in a batch; null without batches")
    wait_p95: float | None = Field(description="an item's wait for its batch, in seconds")
    waiting: float = Field(description="items that wait now")
    dropped: float = Field(description="items that left the queue without being run")


class Hour(BaseModel):
    """The main figures in periods of ten seconds. Quantiles are interpolated within the buckets of the metrics."""

    step: int = Field(examples=[STEP], description="seconds of a period")
    times: list[int] = Field(
        examples=[[1796083200]], description="when each period ended, as Unix time; in order, and 360 at most"
    )
    requests: _Series = Field(description="requests answered per second, without probes and /metrics")
    errors: _Series = Field(description="those of them that were answered with a status of 500 or more, per second")
    latency: Quantiles = Field(description="from the arrival of a request that runs a model to its answer")
    problems: dict[str, _Series] = Field(
        examples=[{"overloaded": [0.0]}], description="requests refused or failed per second, by the problem's code"
    )
    event_loop_lag: _Series = Field(description="99th percentile of how late the event loop is, in seconds")
    memory: Memory
    model: str | None = Field(examples=["classifier"], description="what `queue` is about; null for all models")
    queue: Queue
    models: list[ModelHour] = Field(description="models that have had work, the busiest first")


def status_router(history: History) -> APIRouter:
    """The route of the last hour."""
    router = APIRouter(tags=["operations"], responses=responses(404, 422, 500))
    answers: dict[str, tuple[bytes, bytes]] = {}

    @router.get("/v1/status", summary="The last hour in figures", response_model=Hour)
    async def get_status(
        request: Request,
        model: Annotated[
            str | None,
            fastapi.Query(description="a name; without it all models together", min_length=1, max_length=200),
        ] = None,
    ) -> Response:
        """Requests, latency, refusals, queues, event-loop lag and memory of all processes, every ten seconds."""
        app, known = request.app, partial(visible, request.scope)
        if model is not None and not (known(model) and (model in app.repository.served or model in history.names)):
            raise app.repository.unknown(model)
        times = history.times
        key = str((times[-1:], model, models_of(request.scope)))
        if key not in answers:
            rows = {name: found for name, found in history.models.items() if not name or known(name)}
            if models_of(request.scope) is not None:
                rows[""] = _together(rows)
            answer = await app.threads.run(_describe, times, history.server, rows, model)
            if len(answers) >= _MOST_ANSWERS:
                answers.clear()
            answers[key] = answer
        content, packed = answers[key]
        headers = {"vary": "accept-encoding, authorization, x-api-key"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return cacheable(request, packed, "application/json", {**headers, "content-encoding": "gzip"})
        return cacheable(request, content, "application/json", headers)

    return router


def _together(rows: Mapping[str, Rows]) -> Rows:
    """The rows of some models as one."""
    total = np.zeros_like(rows[""])
    for name, found in rows.items():
        if name:
            numbers(total)[:] += numbers(found)
    return total


def _describe(times: list[int], server: Rows, models: Mapping[str, Rows], model: str | None) -> tuple[bytes, bytes]:
    """The answer, plain and compressed."""
    hour = Hour(
        step=STEP,
        times=times,
        requests=_series(server["requests"] / STEP),
        errors=_series(server["errors"] / STEP),
        latency=_quantiles(server["latency"]),
        problems={
            name: _series(server["problems"][:, index] / STEP)
            for index, name in enumerate(PROBLEMS)
            if server["problems"][:, index].any()
        },
        event_loop_lag=_series(quantile(server["lag"], 0.99)),
        memory=Memory(**{name: _series(server[name]) for name in Memory.model_fields}),
        model=model,
        queue=_queue(models.get(model or "", np.zeros_like(models[""]))),
        models=sorted((_total(name, rows) for name, rows in models.items() if name), key=lambda each: -each.items),
    )
    content = hour.model_dump_json().encode()
    return content, gzip.compress(content, 6, mtime=0)


def _queue(rows: Rows) -> Queue:
    return Queue(
        waiting=_series(rows["waiting"]),
        wait=_quantiles(rows["wait"]),
        batch_size=_series(_ratio(rows["items"], rows["batches"])),
        batch=_quantiles(rows["run"]),
        items=_series(rows["items"] / STEP),
        dropped=_series(rows["dropped"] / STEP),
    )


def _total(name: str, rows: Rows) -> ModelHour:
    size, wait = _ratio(rows["items"].sum(keepdims=True), rows["batches"].sum(keepdims=True)), rows["wait"].sum(axis=0)
    return ModelHour(
        name=name,
        items=round(rows["items"].sum()),
        batch_size=_series(size)[0],
        wait_p95=_series(quantile(wait[None], 0.95))[0],
        waiting=rows["waiting"][-1:].sum(),
        dropped=round(rows["dropped"].sum()),
    )


def _quantiles(buckets: npt.NDArray[np.float64]) -> Quantiles:
    return Quantiles(**{f"p{round(100 * share)}": _series(quantile(buckets, share)) for share in (0.5, 0.95, 0.99)})


def _ratio(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)


def _series(values: npt.NDArray[np.float64]) -> list[float | None]:
    """Values with four significant digits; None for NaN."""
    return [None if np.isnan(value) else float(f"{value:.4g}") for value in values.tolist()]
