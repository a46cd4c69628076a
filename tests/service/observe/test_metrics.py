"""Metrics of batches and refusals, and the formats of /metrics."""

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.inference.observers import BatchRan, ItemsDropped
from service.observe.events import AnswersCompared, AnswersCounted
from service.observe.metrics import Metrics, observe_all
from tests.pictures import encode
from tests.tiny import solid

M1 = ("m", "1", "stable", "int8")
LABELS = dict(zip(("model", "version", "alias", "variant"), M1, strict=True))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_batch():
    metrics = Metrics()
    metrics.observe([BatchRan(M1, [0.001, 0.002, 0.003], 1.0, 0.5), BatchRan(M1, [0.0], 2.0, 0.25)])
    assert value(metrics, "quartet_batch_size_count", **LABELS) == 2
    assert value(metrics, "quartet_batch_size_sum", **LABELS) == 4
    assert value(metrics, "quartet_queue_seconds_count", **LABELS) == 4
    assert value(metrics, "quartet_queue_seconds_sum", **LABELS) == pytest.approx(0.006)
    assert value(metrics, "quartet_inference_seconds_sum", **LABELS) == 0.75


def test_many_values_are_observed_as_one_after_the_other():
    one, all_ = (Histogram("seconds", "-", buckets=(0.1, 0.5, 1), registry=CollectorRegistry()) for _ in range(2))
    values = [0.05, 0.1, 0.2, 0.5, 0.7, 1.0, 3.0]
    for each in values:
        one.observe(each)
    observe_all(all_, values)
    samples = [[(s.name, s.labels, s.value) for s in each.collect()[0].samples if "created" not in s.name]
               for each in (one, all_)]  # fmt: skip
    assert samples[0] == samples[1]


def test_drops_are_there_from_the_start():
    metrics = Metrics()
    metrics.serve([(M1, "cpu")])
    assert value(metrics, "quartet_dropped_total", **LABELS, reason="expired") == 0
    metrics.observe([ItemsDropped(M1, "abandoned", 3)])
    assert value(metrics, "quartet_dropped_total", **LABELS, reason="abandoned") == 3


def test_two_applications_have_separate_metrics():
    first, second = Metrics(), Metrics()
    first.observe([ItemsDropped(M1, "expired", 1)])
    assert value(second, "quartet_dropped_total", **LABELS, reason="expired") is None
    assert b"process_resident_memory_bytes" in generate_latest(second.registry)


async def test_the_page(app: FastAPI, client: httpx.AsyncClient):
    for _ in range(3):
        await client.post("/v1/predict", content=encode(solid("red")))
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["quartet_batch_size_sum", ("", "classifier", "reference", "1")] == 3
    assert samples["quartet_decode_seconds_count", ("", "classifier", "reference", "1")] == 3
    assert samples["quartet_queue_seconds_count", ("", "classifier", "reference", "1")] == 3
    assert samples["quartet_queue_depth", ("", "classifier", "reference", "1")] == 0
    openmetrics = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
@pytest.mark.parametrize("version", ["x", "1.x", "", "9" * 5000, "1.0.0" + "0" * 5000, "1..", "\xe4"])
async def test_a_version_that_is_none_is_answered_in_the_text_format(
    client: httpx.AsyncClient, kind: str, version: str
):
    answer = await client.get("/metrics", headers=[(b"accept", f"{kind}; version={version}".encode("latin-1"))])
    assert answer.status_code == 200
    assert "quartet_queue_depth" in answer.text
    assert len(answer.headers["content-type"]) < 600
    if version == "x":
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_trials_of_versions_are_counted():
    metrics = Metrics()
    version = ("m", "2", "candidate", "reference")
    metrics.observe(
        [
            AnswersCompared("m", "1", "2", compared=3, agreed=2),
            AnswersCompared("m", "1", "2", compared=1, failed=4, dropped=5),
            AnswersCounted(version, failed=1, labels={"cat": 2}, rated=2, unfamiliar=1, seconds=[0.01, 0.02]),
        ]
    )
    value = metrics.registry.get_sample_value
    labels = {"model": "m", "version": "1", "candidate": "2"}
    expected = {"compared": 4, "agreed": 2, "failed": 4, "dropped": 5}
    assert {name: value(f"quartet_shadow_{name}_total", labels) for name in expected} == expected
    of_version = dict(zip(("model", "version", "alias", "variant"), version, strict=True))
    assert value("quartet_canary_seconds_count", of_version) == 2
    assert value("quartet_canary_failed_total", of_version) == 1
    assert value("quartet_canary_rated_total", of_version) == 2
    assert value("quartet_canary_unfamiliar_total", of_version) == 1
    assert value("quartet_canary_labels_total", {**of_version, "label": "cat"}) == 2
