"""The main figures: read from metrics, and quantiles as Prometheus computes them."""

import numpy as np
import pytest
from prometheus_client import Histogram

from service.inference.observers import BatchRan, ItemsDropped
from service.observe.events import RequestEnded
from service.observe.figures import PROBLEMS, Figures, quantile, read
from service.observe.metrics import SECONDS, Metrics

ROUTES = {"/v1/predict"}


def label(model: str, version: str = "1") -> tuple[str, str, str, str]:
    return (model, version, "", "reference")


def ended(route: str = "/v1/predict", status: int = 200, seconds: float = 0.01, **facts: object) -> RequestEnded:
    return RequestEnded("a-1", "POST", route, route, facts, status, seconds, 0.0)


def counted(metrics: Metrics) -> Figures:
    return read(metrics.registry.collect(), ROUTES)


def test_what_is_counted():
    metrics = Metrics()
    metrics.observe(
        [
            *[ended(seconds=0.004)] * 3,
            ended(status=503, problem="model-broken"),
            ended("other", 429, 0.0001, problem="rate-limited"),
            ended("other", 400, problem="of-some-library"),
            ended("/healthz/live"),
            ended("/metrics"),
            ended("/v1/status"),
            BatchRan(label("m"), [0.02, 0.03], 1.0, 0.5),
            BatchRan(label("m", "2"), [0.02], 1.0, 0.5),
            BatchRan(label("n"), [0.02], 1.0, 0.5),
            ItemsDropped(label("m"), "expired", 5),
        ]
    )
    metrics.loop_lag.observe(0.3)
    metrics.queue_depth.labels(*label("m")).set(7)
    metrics.queue_depth.labels(*label("n")).set(1)
    server, models = counted(metrics)
    assert (server["requests"][0], server["errors"][0]) == (6, 1)
    problems = {name: count for name, count in zip(PROBLEMS, server["problems"][0], strict=True) if count}
    assert problems == {"model-broken": 1, "rate-limited": 1, "other": 1}
    assert server["latency"].sum() == 4  # of requests that run a model
    assert server["latency"][0, SECONDS.index(0.005)] == 3
    assert server["lag"][0, SECONDS.index(0.5)] == server["lag"].sum() == 1
    assert server["resident"] > 10e6
    assert np.isnan(server["gpu_free"])
    assert [[rows[name][0] for name in ("waiting", "items", "batches", "dropped")] for rows in models.values()] == [
        [8, 4, 3, 5], [7, 3, 2, 5], [1, 1, 1, 0],
    ]  # fmt: skip
    assert list(models) == ["", "m", "n"]
    assert models["m"]["wait"][0, SECONDS.index(0.025)] == 2
    assert models["m"]["run"][0, SECONDS.index(0.5)] == models["m"]["run"].sum() == 2


def test_quantiles_are_those_of_prometheus():
    histogram = Histogram("seconds", "-", buckets=SECONDS, registry=None)
    for value in (0.003, 0.004, 0.004, 0.02):
        histogram.observe(value)
    cumulative = [sample.value for sample in histogram.collect()[0].samples if sample.name.endswith("_bucket")]
    buckets = np.diff([cumulative], prepend=0)
    # histogram_quantile: rank 2 of the 3 in (0.0025, 0.005].
    assert quantile(buckets, 0.5) == pytest.approx([0.0025 + 0.0025 * 2 / 3])
    assert quantile(buckets, 0.99) == pytest.approx([0.01 + 0.015 * 0.96])
    beyond = np.zeros_like(buckets)
    beyond[0, -1] = 1
    assert quantile(beyond, 0.5) == [30]
    assert np.isnan(quantile(np.zeros_like(buckets), 0.5)).all()
    assert quantile(buckets[:0], 0.5).shape == (0,)
