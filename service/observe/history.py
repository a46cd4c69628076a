"""The last hour of the main figures, in memory: a row for every ten seconds.

A row is what the metrics have counted since the row before, so a request costs nothing more. Each process publishes its
last rows on the board and adds up those of all, so every process has the hour of the whole service. A process that was
started again has the hour since then.

In memory are 360 rows of 62 numbers, and of 20 more for each model: 179 kB and 58 kB a model, at most 2.1 MB.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric

from service.catalogue import CATALOGUE
from service.observe.metrics import SECONDS, Metrics
from service.processes.board import Board

logger = logging.getLogger(__name__)

# Seconds of a row, and how many rows are kept.
STEP, ROWS = 10, 360
# Models with rows of their own. All of them count in the rows of all models.
_MOST_MODELS = 32
# Rows that a process publishes: one that is late by so many is still added to the others.
_PUBLISHED = 3
# How long the other processes have to publish a row; the board writes within a second.
_OTHERS_SECONDS = 2.0
_KEY = "history"
# Requests that only look after the server.
_WATCHING = ("/healthz/", "/v2/health/", "/metrics", "/v1/status")
_OVER_GRPC = "/inference.GRPCInferenceService/ModelInfer"
_BUCKETS = {bound: index for index, bound in enumerate((*SECONDS, math.inf))}
# What a request is refused or failed with; the last one stands for what the catalogue does not know.
PROBLEMS = (*CATALOGUE, "other")

_SERVER = np.dtype(
    [
        ("requests", float),
        ("errors", float),  # answers of 5xx
        ("problems", float, len(PROBLEMS)),
        ("latency", float, len(_BUCKETS)),  # of requests that run a model
        ("lag", float, len(_BUCKETS)),
        ("resident", float),
        ("available", float),
        ("gpu_free", float),
    ]
)
_MODEL = np.dtype(
    [
        ("waiting", float),  # items, at the end of the period
        ("items", float),
        ("batches", float),
        ("dropped", float),
        ("wait", float, len(_BUCKETS)),
    ]
)
# Not counted but measured, at the end of a period. Of some the least of all processes holds; NaN where unknown.
_GAUGES = {"resident", "available", "gpu_free", "waiting"}
_LEAST = ("available", "gpu_free")
_FAMILIES = {
    *("quartet_requests", "quartet_problems", "quartet_request_seconds", "quartet_event_loop_lag_seconds"),
    *("process_resident_memory_bytes", "quartet_memory_available_bytes", "quartet_gpu_memory_free_bytes"),
    *("quartet_queue_depth", "quartet_batch_size", "quartet_dropped", "quartet_queue_seconds"),
}

# Of the type _SERVER or _MODEL, a row for each period.
Rows = npt.NDArray[np.void]


class Figures(NamedTuple):
    """A row of the server and one of each model, by name; the row of all models together has an empty name."""

    server: Rows
    models: dict[str, Rows]


class History:
    """The rows of the last hour.

    Args:
        board: exchanges rows with the other processes of the service.
        metrics: that are read.
    """

    def __init__(self, board: Board, metrics: Metrics) -> None:
        self._board = board
        self._metrics = metrics
        self._published: dict[int, Figures] = {}
        # By the number of the period modulo ROWS; -1 where there is no row.
        self._periods = np.full(ROWS, -1)
        self._server = np.zeros(ROWS, _SERVER)
        self._models = {"": np.zeros(ROWS, _MODEL)}

    async def run(self, measure: Callable[[], None], routes: Collection[str]) -> None:
        """Adds a row every ten seconds, until it is cancelled.

        Args:
            measure: sets the gauges; called on the event loop.
            routes: of HTTP that run models; their latency is kept, and that of gRPC.
        """
        routes = {*routes, _OVER_GRPC}
        before, began = await asyncio.to_thread(self._read, routes), time.monotonic()
        while True:
            period = round(time.time() / STEP) + 1  # 5 to 15 seconds from now, however the clock was set
            await asyncio.sleep(period * STEP - time.time())
            try:
                measure()
                now, ended = await asyncio.to_thread(self._read, routes), time.monotonic()
                await self.add(period, difference(now, before, STEP / (ended - began)))
                before, began = now, ended
            except Exception:
                logger.exception("there is no row of figures for the last %d s", STEP)

    async def add(self, period: int, figures: Figures) -> None:
        """Adds a row of this process, and those that others have published.

        Args:
            period: number of the period since the epoch.
            figures: in this period.
        """
        self._published = {each: kept for each, kept in self._published.items() if 0 < period - each < _PUBLISHED}
        self._published[period] = figures
        self._board.publish(_KEY, self._describe)
        if self._board.shared:
            await asyncio.sleep(_OTHERS_SECONDS)
        documents = await self._board.read(_KEY)
        self._periods[self._periods > period] = -1  # the clock was set back
        for each in self._published:
            self._put(each, _add_up([row for document in documents for row in document if row[0] == each]))

    @property
    def times(self) -> list[int]:
        """When the period of each row ended, in seconds since the epoch, in order."""
        return [int(period) * STEP for period in self._periods[self._order]]

    @property
    def server(self) -> Rows:
        """The rows of the server, in the order of time."""
        return self._server[self._order]

    @property
    def names(self) -> Collection[str]:
        """The models that have rows."""
        return self._models.keys() - {""}

    @property
    def models(self) -> dict[str, Rows]:
        """The rows of each model by its name, and of all models under an empty name."""
        return {name: rows[self._order] for name, rows in self._models.items()}

    @property
    def _order(self) -> npt.NDArray[np.intp]:
        newest = self._periods.max()
        order = np.argsort(self._periods)
        return order[self._periods[order] > max(-1, newest - ROWS)]

    def _read(self, routes: Collection[str]) -> Figures:
        return read(self._metrics.own.collect(), routes)

    def _describe(self) -> list[Any]:
        """The last rows of this process, as JSON types."""
        return [
            [period, numbers(server)[0].tolist(), {name: numbers(row)[0].tolist() for name, row in models.items()}]
            for period, (server, models) in self._published.items()
        ]

    def _put(self, period: int, figures: Figures) -> None:
        index = period % ROWS
        self._periods[index] = period
        self._server[index] = figures.server[0]
        for name, rows in list(self._models.items()):
            rows[index] = np.zeros((), _MODEL)
            if name and name not in figures.models and not numbers(rows).any():
                del self._models[name]  # it has done nothing for an hour
        for name, row in figures.models.items():
            if name not in self._models and len(self._models) <= _MOST_MODELS:
                self._models[name] = np.zeros(ROWS, _MODEL)
            if name in self._models:
                self._models[name][index] = row[0]


def numbers(rows: Rows) -> npt.NDArray[np.float64]:
    """The same memory as plain numbers."""
    return rows.view(np.float64).reshape(len(rows), rows.dtype.itemsize // np.dtype(float).itemsize)


def quantile(buckets: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    """The value, in seconds, that a share of the values does not exceed; NaN without values.

    It is interpolated within a bucket, as by Prometheus' `histogram_quantile`.

    Args:
        buckets: counts, a row for each result.
        share: 0 to 1.
    """
    bounds = np.array([0.0, *SECONDS, SECONDS[-1]])  # nothing is known of values beyond the last bound
    ends = buckets.cumsum(axis=-1)
    wanted = share * ends[:, -1:]
    index = (ends >= wanted).argmax(axis=-1)
    row = np.arange(len(buckets))
    count = buckets[row, index]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = 1 - (ends[row, index] - wanted[:, 0]) / count
    return np.where(ends[:, -1] > 0, bounds[index] + (bounds[index + 1] - bounds[index]) * part, np.nan)


def read(families: Iterable[Metric], routes: Collection[str]) -> Figures:
    """What metrics have counted since their start, and measure now.

    Args:
        families: as a collector gives them.
        routes: that run models.
    """
    server, models = np.zeros(1, _SERVER), {"": np.zeros(1, _MODEL)}
    counted = server[0]
    for name in _LEAST:
        counted[name] = np.nan
    for family in families:
        if family.name not in _FAMILIES:
            continue
        for name, labels, value, *_ in family.samples:
            match name:
                case "quartet_requests_total" if not labels["route"].startswith(_WATCHING):
                    counted["requests"] += value
                    counted["errors"] += value if labels["status"] >= "500" else 0
                case "quartet_problems_total":
                    problem = labels["problem"]
                    counted["problems"][PROBLEMS.index(problem if problem in CATALOGUE else "other")] += value
                case "quartet_request_seconds_bucket" if labels["route"] in routes:
                    counted["latency"][_BUCKETS[float(labels["le"])]] += value
                case "quartet_event_loop_lag_seconds_bucket":
                    counted["lag"][_BUCKETS[float(labels["le"])]] += value
                case "process_resident_memory_bytes":
                    counted["resident"] += value
                case "quartet_memory_available_bytes":
                    counted["available"] = value
                case "quartet_gpu_memory_free_bytes":
                    counted["gpu_free"] = np.fmin(counted["gpu_free"], value)
                case _ if "model" in labels:
                    for model in ("", labels["model"]):
                        _count_of_model(models.setdefault(model, np.zeros(1, _MODEL))[0], name, labels, value)
    for rows, field in ((server, "latency"), (server, "lag"), *((rows, "wait") for rows in models.values())):
        rows[field] = np.diff(rows[field], axis=-1, prepend=0)  # a bucket counts those below it too
    return Figures(server, models)


def _count_of_model(counted: Any, name: str, labels: Mapping[str, str], value: float) -> None:
    match name:
        case "quartet_queue_depth":
            counted["waiting"] += value
        case "quartet_batch_size_sum":
            counted["items"] += value
        case "quartet_batch_size_count":
            counted["batches"] += value
        case "quartet_dropped_total":
            counted["dropped"] += value
        case "quartet_queue_seconds_bucket":
            counted["wait"][_BUCKETS[float(labels["le"])]] += value


def difference(now: Figures, before: Figures, scale: float) -> Figures:
    """What was counted between two readings, times `scale`, and what was measured last. Idle models are left out."""

    def rows(later: Rows, earlier: Rows) -> Rows:
        found = np.zeros(1, later.dtype)
        numbers(found)[:] = (numbers(later) - numbers(earlier)) * scale
        for name in _GAUGES & set(later.dtype.names or ()):
            found[name] = later[name]
        return found

    models = {name: rows(row, before.models.get(name, np.zeros(1, _MODEL))) for name, row in now.models.items()}
    return Figures(
        rows(now.server, before.server), {name: row for name, row in models.items() if not name or numbers(row).any()}
    )


def _add_up(found: Sequence[Any]) -> Figures:
    """A row of all processes, from what `History._describe` has of each."""

    def rows(kind: np.dtype[np.void], each: Sequence[Sequence[float]]) -> Rows:
        one = np.array(each, np.float64).view(kind)[:, 0]
        total = np.zeros(1, kind)
        numbers(total)[0] = numbers(one).sum(axis=0)
        for name in set(_LEAST) & set(kind.names or ()):
            total[name] = np.fmin.reduce(one[name])
        return total

    names = {name for _, _, models in found for name in models}
    return Figures(
        rows(_SERVER, [server for _, server, _ in found]),
        {name: rows(_MODEL, [models[name] for _, _, models in found if name in models]) for name in sorted(names)},
    )
