"""The main figures of a period, as the metrics have counted them: rows that can be subtracted and added up."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client import Metric

from service.catalogue import CATALOGUE
from service.observe.metrics import SECONDS

# Requests that only look after the server.
_WATCHING = ("/healthz/", "/v2/health/", "/metrics", "/v1/status")
_BUCKETS = {bound: index for index, bound in enumerate((*SECONDS, math.inf))}
# What a request is refused or failed with; the last one stands for what the catalogue does not know.
PROBLEMS = (*CATALOGUE, "other")

# A row of the server, and one of a model. Latency is of requests that run a model; errors are answers of 5xx.
SERVER = np.dtype(
    [
        ("requests", float),
        ("errors", float),
        ("problems", float, len(PROBLEMS)),
        ("latency", float, len(_BUCKETS)),
        ("lag", float, len(_BUCKETS)),
        ("resident", float),
        ("available", float),
        ("gpu_free", float),
    ]
)
MODEL = np.dtype(
    [
        ("waiting", float),  # items, at the end of the period
        ("items", float),
        ("batches", float),
        ("dropped", float),
        ("wait", float, len(_BUCKETS)),
        ("run", float, len(_BUCKETS)),
    ]
)
_HISTOGRAMS = {"latency", "lag", "wait", "run"}
# Not counted but measured, at the end of a period. Of some the least of all processes holds; NaN where unknown.
_GAUGES = {"resident", "available", "gpu_free", "waiting"}
_LEAST = ("available", "gpu_free")
_FAMILIES = {
    *("quartet_requests", "quartet_problems", "quartet_request_seconds", "quartet_event_loop_lag_seconds"),
    *("process_resident_memory_bytes", "quartet_memory_available_bytes", "quartet_gpu_memory_free_bytes"),
    *("quartet_queue_depth", "quartet_batch_size", "quartet_dropped"),
    *("quartet_queue_seconds", "quartet_inference_seconds"),
}

# Of the type SERVER or MODEL.
Rows = npt.NDArray[np.void]


class Figures(NamedTuple):
    """A row of the server and one of each model, by name; the row of all models together has an empty name."""

    server: Rows
    models: dict[str, Rows]


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
    server, models = np.zeros(1, SERVER), {"": np.zeros(1, MODEL)}
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
                        _count_of_model(models.setdefault(model, np.zeros(1, MODEL))[0], name, labels, value)
    for rows in (server, *models.values()):
        for name in _HISTOGRAMS & set(rows.dtype.names or ()):
            rows[name] = np.diff(rows[name], axis=-1, prepend=0)  # a bucket counts those below it too
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
        case "quartet_inference_seconds_bucket":
            counted["run"][_BUCKETS[float(labels["le"])]] += value


def difference(now: Figures, before: Figures, scale: float) -> Figures:
    """What was counted between two readings, times `scale`, and what was measured last. Idle models are left out."""

    def rows(later: Rows, earlier: Rows) -> Rows:
        found = np.zeros(1, later.dtype)
        numbers(found)[:] = (numbers(later) - numbers(earlier)) * scale
        for name in _GAUGES & set(later.dtype.names or ()):
            found[name] = later[name]
        return found

    models = {name: rows(row, before.models.get(name, np.zeros(1, MODEL))) for name, row in now.models.items()}
    return Figures(
        rows(now.server, before.server), {name: row for name, row in models.items() if not name or numbers(row).any()}
    )


def describe(figures: Figures) -> list[Any]:
    """Figures as JSON types."""
    server, models = figures
    return [numbers(server)[0].tolist(), {name: numbers(row)[0].tolist() for name, row in models.items()}]


def add_up(found: Sequence[Any]) -> Figures:
    """A row of all processes, from what `describe` gives of each."""

    def rows(kind: np.dtype[np.void], each: Sequence[Sequence[float]]) -> Rows:
        one = np.array(each, np.float64).view(kind)[:, 0]
        total = np.zeros(1, kind)
        numbers(total)[0] = numbers(one).sum(axis=0)
        for name in set(_LEAST) & set(kind.names or ()):
            total[name] = np.fmin.reduce(one[name])
        return total

    names = {name for _, models in found for name in models}
    return Figures(
        rows(SERVER, [server for server, _ in found]),
        {name: rows(MODEL, [models[name] for _, models in found if name in models]) for name in sorted(names)},
    )
