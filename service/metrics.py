"""Prometheus metrics, and the observer that feeds them from a batcher."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.inference.queue import DropReason

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# Labels of what is measured of a loaded version.
_VERSION = ("model", "version")
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Every metric of one application, in a registry of its own (so that tests can have several).

    Attributes:
        exposed: what /metrics shows: this registry, unless several processes are to be shown as one.
    """

    def __init__(self) -> None:
        self.registry = self.exposed = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.requests = Counter(
            "quartet_requests", "Requests answered", ("route", "method", "status"), registry=registry
        )
        self.latency = Histogram(
            "quartet_request_seconds", "From the request's arrival to its answer", ("route",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.refused = Counter(
            "quartet_refused", "Requests refused or failed, by the problem's type", ("route", "problem"),
            registry=registry,
        )  # fmt: skip
        self.decode = Histogram(
            "quartet_decode_seconds", "Decoding one item", _VERSION, buckets=_SECONDS, registry=registry
        )
        self.queue_depth = Gauge(
            "quartet_queue_depth", "Items that wait for a model", _VERSION, registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.batch_size = Histogram(
            "quartet_batch_size", "Items in a batch", _VERSION, buckets=_SIZES, registry=registry
        )
        self.queue_time = Histogram(
            "quartet_queue_seconds", "An item's wait for its batch", _VERSION, buckets=_SECONDS, registry=registry
        )
        self.inference = Histogram(
            "quartet_inference_seconds", "Running one batch", _VERSION, buckets=_SECONDS, registry=registry
        )
        self.dropped = Counter(
            "quartet_dropped", "Items that left the queue without being run", (*_VERSION, "reason"), registry=registry
        )
        self.loop_lag = Histogram(
            "quartet_event_loop_lag_seconds", "How late the event loop calls back, once a second",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.device = Gauge(
            "quartet_model_info", "1 for the version that is served, on its device, with the graph that answers",
            ("model", "version", "device", "variant"), registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self._served: list[Mapping[str, str]] = []

    def serve(self, signatures: Iterable[Mapping[str, str]]) -> None:
        """Says what is served now: model, version, device and variant of each."""
        served = list(signatures)
        for gone in self._served:
            if gone in served:
                continue
            if self.exposed is self.registry:
                self.device.remove(*gone.values())
                with contextlib.suppress(KeyError):  # nobody has asked for the metrics yet
                    self.queue_depth.remove(gone["model"], gone["version"])
            else:  # what several processes count cannot be removed
                self.device.labels(**gone).set(0)
        for signature in served:
            self.device.labels(**signature).set(1)
        self._served = served


class BatchObserver:
    """Counts the batches of a version of a model. Labels are resolved once, not for every batch."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self._size = metrics.batch_size.labels(model, version)
        self._queue = metrics.queue_time.labels(model, version)
        self._inference = metrics.inference.labels(model, version)
        self._prepared = metrics.decode.labels(model, version)
        self._dropped = {
            "abandoned": metrics.dropped.labels(model, version, "abandoned"),
            "expired": metrics.dropped.labels(model, version, "expired"),
        }

    def prepared(self, seconds: float) -> None:
        """See `service.inference.batcher.Observer`."""
        self._prepared.observe(seconds)

    def batch(self, size: int, queued: Sequence[float], seconds: float) -> None:
        """See `service.inference.batcher.Observer`."""
        self._size.observe(size)
        self._inference.observe(seconds)
        for waited in queued:
            self._queue.observe(waited)

    def dropped(self, reason: DropReason, count: int) -> None:
        """See `service.inference.batcher.Observer`."""
        self._dropped[reason].inc(count)
