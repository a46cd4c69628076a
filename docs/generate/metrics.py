"""The table of the metrics: their names and labels from the code, and what to do about each."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from docs.generate.tables import table, with_code
from service.observe.metrics import Metrics
from service.observe.state import State
from service.processes.worker import describe_processes

_VERSION = ("model", "version", "alias", "variant")
# What to do when a metric is high, or low where that is what matters.
REMEDIES = {
    "quartet_requests_in_flight": "as for the queue",
    "quartet_request_seconds": "compare it with the histograms of decoding, queue and inference: they say where the "
    "time goes",
    "quartet_problems_total": "`overloaded`: add replicas; `model-broken`, `inference-failed`, `internal-error`: see "
    "the log; the others are mistakes of clients",
    "quartet_key_requests_total": "give the key a [rate](../guides/keys.md)",
    "quartet_queue_depth": "add replicas, or give the model a faster [variant](../guides/operate.md#variants)",
    "quartet_queue_seconds": "as for the depth of the queue",
    "quartet_inference_seconds": "use a smaller model or a variant; look at what else runs on the machine",
    "quartet_decode_seconds": "send smaller images; add cores",
    "quartet_dropped_total": "as for the queue",
    "quartet_event_loop_lag_seconds": "the processor is too busy: give the server cores of its own",
    "quartet_events_dropped_total": "as for the lag of the event loop",
    "quartet_model_info": 'alert on `device="cpu"` if you pay for a GPU',
    "quartet_model_ready": "at 0: the log says why",
    "quartet_versions_refused": "`GET /v1/models` has the reasons",
    "quartet_loads_failed_total": "the log has the reason",
    "quartet_self_check_failed_total": "suspect the machine; alert on any",
    "quartet_shadow_failed_total": "the candidate is not fit to serve: see the log",
    "quartet_shadow_dropped_total": "copy a smaller [share](../guides/versions.md#shadow-copies-of-the-calls)",
    "quartet_canary_failed_total": "a canary that fails too often is withdrawn by its "
    "[policy](../guides/versions.md#canary-a-share-of-the-calls)",
    "quartet_canary_unfamiliar_total": "compare its share of the rated answers with that of the default version",
    "quartet_captured_dropped_total": "`queue`, `error`: the disk is slow or fails, see the log; `disk`: make room, or "
    "lower `min_free_mb` of the [policy](../guides/captures.md)",
    "quartet_captured_bytes": "at `max_mb` of the [policy](../guides/captures.md) the oldest items give way",
    "quartet_feedback_total": "compare the shares of right answers of the versions",
    "quartet_drift_distance": "`GET /v1/models/NAME/drift` has both histograms",
    "quartet_drifted_features": "see [drift](../guides/drift.md#what-to-do)",
    "quartet_estimated_accuracy": "when it is low: as for drift",
    "quartet_key_expiry_timestamp_seconds": "when it is near: `quartet keys rotate NAME`",
    "quartet_tls_certificate_expiry_timestamp_seconds": "when it is near: renew the certificate; the log says "
    "why a renewed one [is not used](../guides/listen.md#tls)",
    "quartet_memory_available_bytes": "when it is low: serve fewer models, or lower QUARTET_MAX_MEMORY_MB",
    "quartet_gpu_memory_free_bytes": "when it is low: lower QUARTET_GPU_MEMORY_MB or QUARTET_MAX_BATCH",
    "quartet_workers_ready": "when it is low: the log says why a worker ended",
    "quartet_worker_starts_total": "the log says why a worker ended",
}


@dataclass(frozen=True, slots=True)
class Described:
    """A metric.

    Attributes:
        name: as /metrics shows it.
        labels: their names.
        type: counter, gauge, histogram or info.
        help: what it says.
    """

    name: str
    labels: tuple[str, ...]
    type: str
    help: str


def described() -> Iterator[Described]:
    """Every metric of the service beside those that the Prometheus client brings."""
    # The registry has no other list of its collectors, and a metric none of its labels.
    registered: list[Collector] = list(Metrics().registry._collector_to_names)
    for collector in registered:
        if isinstance(collector, MetricWrapperBase):
            (family,) = collector.describe()
            yield _described(family, collector._labelnames)
    for family in (*State(None).describe(), *describe_processes()):
        labels = family.samples[0].labels if family.samples else family._labelnames  # type: ignore[attr-defined]
        yield _described(family, tuple(labels))


def _described(family: Metric, labels: tuple[str, ...]) -> Described:
    ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
    return Described(family.name + ending, labels, family.type, family.documentation)


def in_markdown() -> str:
    """A row for each metric."""
    return table(
        ("metric", "type, by labels", "what it says", "when it is high"),
        ((f"`{each.name}`", _type(each), each.help, with_code(REMEDIES.get(each.name, ""))) for each in described()),
    )


def _type(metric: Described) -> str:
    of_version = metric.labels[: len(_VERSION)] == _VERSION
    labels = ("version …", *metric.labels[len(_VERSION) :]) if of_version else metric.labels
    return f"{metric.type} by {', '.join(labels)}" if labels else metric.type
