"""Prometheus metrics, fed by events of requests, calls and batches."""

import contextlib
import typing
from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from service.inference.observers import BatchRan, CallEnded, DropReason, ItemsDropped, Label, SelfChecked
from service.observe.events import AnswersCompared, AnswersCounted, FeedbackGiven, ItemsCaptured, RequestEnded

# Bounds of the buckets of seconds.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# Labels of what is measured of a loaded version.
_VERSION = ("model", "version", "alias", "variant")
# What is counted of a candidate that gets the inputs of calls in the background.
_SHADOW = {
    "compared": "Answers of a version that were compared with those of its candidate",
    "agreed": "Compared answers that agreed, by the task's own measure",
    "failed": "Inputs on which the candidate failed",
    "dropped": "Inputs that the candidate did not get, for lack of room or time",
}
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_Values = defaultdict[tuple[str, ...], list[float]]
# When each counter was created is a third of the lines of /metrics, and in no query.
disable_created_metrics()  # type: ignore[no-untyped-call]
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """An observer that keeps every metric of one application, in a registry of its own.

    Attributes:
        exposed: what /metrics shows: this registry, unless several processes are shown as one.
        own: what this process has counted.
    """

    tensors = False

    def __init__(self) -> None:
        self.registry = self.exposed = self.own = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        self.requests = Counter(
            "quartet_requests", "Requests answered", ("route", "method", "status"), registry=registry
        )
        self.latency = Histogram(
            "quartet_request_seconds", "From the request's arrival to its answer", ("route",),
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "quartet_requests_in_flight", "Requests that are being answered", registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.problems = Counter(
            "quartet_problems", "Requests refused or failed, by the problem's type", ("route", "problem"),
            registry=registry,
        )  # fmt: skip
        self.keys = Counter("quartet_key_requests", "Requests by API key", ("key", "status"), registry=registry)
        self.decode = Histogram(
            "quartet_decode_seconds", "Decoding one item", _VERSION, buckets=SECONDS, registry=registry
        )
        self.queue_depth = Gauge(
            "quartet_queue_depth", "Items that wait for a model", _VERSION, registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.batch_size = Histogram(
            "quartet_batch_size", "Items in a batch", _VERSION, buckets=_SIZES, registry=registry
        )
        self.queue_time = Histogram(
            "quartet_queue_seconds", "An item's wait for its batch", _VERSION, buckets=SECONDS, registry=registry
        )
        self.inference = Histogram(
            "quartet_inference_seconds", "Running one batch", _VERSION, buckets=SECONDS, registry=registry
        )
        self.dropped = Counter(
            "quartet_dropped", "Items that left the queue without being run", (*_VERSION, "reason"), registry=registry
        )
        self.self_check_failed = Counter(
            "quartet_self_check_failed", "Self-checks with wrong answers, after which the version was taken out",
            _VERSION, registry=registry,
        )  # fmt: skip
        self.self_check_seconds = Counter(
            "quartet_self_check_seconds", "Seconds of batches with rows of self-checks", _VERSION, registry=registry
        )
        self.loop_lag = Histogram(
            "quartet_event_loop_lag_seconds", "How late the event loop calls back, once a second",
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.events_dropped = Counter(
            "quartet_events_dropped", "Events that observers missed since their buffer was full", registry=registry
        )
        self.device = Gauge(
            "quartet_model_info", "1 for the version that is served, on its device, with the graph that answers",
            (*_VERSION, "device"), registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        self.shadow = {
            name: Counter(f"quartet_shadow_{name}", text, ("model", "version", "candidate"), registry=registry)
            for name, text in _SHADOW.items()
        }
        self.canary_seconds = Histogram(
            "quartet_canary_seconds", "Queue and inference of a call, for models with a canary", _VERSION,
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.canary_failed = Counter(
            "quartet_canary_failed", "Calls that a version failed, for models with a canary", _VERSION,
            registry=registry,
        )  # fmt: skip
        self.canary_labels = Counter(
            "quartet_canary_labels", "Answers by their most likely label, for models with a canary",
            (*_VERSION, "label"), registry=registry,
        )  # fmt: skip
        self.canary_rated = Counter(
            "quartet_canary_rated", "Answers with a p-value, for models with a canary", _VERSION, registry=registry
        )
        self.canary_unfamiliar = Counter(
            "quartet_canary_unfamiliar", "Answers to out-of-distribution inputs, for models with a canary", _VERSION,
            registry=registry,
        )  # fmt: skip
        self.captured = Counter(
            "quartet_captured_items", "Inputs kept with their answers, by the strategy that wanted them",
            ("model", "strategy"), registry=registry,
        )  # fmt: skip
        self.not_captured = Counter(
            "quartet_captured_dropped",
            "Inputs that were to be kept and were not: the queue was full, the disk nearly full (disk) or failing "
            "(error), or the input unreadable",
            ("model", "reason"), registry=registry,
        )  # fmt: skip
        self.captured_bytes = Gauge(
            "quartet_captured_bytes", "Size of the kept inputs and answers of a model", ("model",), registry=registry,
            multiprocess_mode="mostrecent",
        )  # fmt: skip
        self.feedback = Counter(
            "quartet_feedback",
            "Answers of which somebody has said that they were right or wrong, or which were scored against the truth",
            ("model", "version", "outcome"), registry=registry,
        )  # fmt: skip
        self._served: set[tuple[str, str, str, str, str]] = set()

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        requests: Counts[tuple[str, str, int]] = Counts()
        keys: Counts[tuple[str, int]] = Counts()
        # The values of each histogram by labels, which are counted together.
        latency, decode, size, queue_time, inference = (
            defaultdict[tuple[str, ...], list[float]](list) for _ in range(5)
        )
        for event in events:
            if type(event) is RequestEnded:
                requests[event.route, event.method if event.method in _METHODS else "other", event.status] += 1
                latency[event.route,].append(event.seconds)
                if "key" in event.facts:
                    keys[str(event.facts["key"]), event.status] += 1
                if "problem" in event.facts:
                    self.problems.labels(event.route, event.facts["problem"]).inc()
            elif type(event) is CallEnded:
                decode[event.labels[0]].extend(event.decode_times)
            elif type(event) is BatchRan:
                size[event.label].append(len(event.queued))
                queue_time[event.label].extend(event.queued)
                inference[event.label].append(event.seconds)
            elif type(event) is ItemsDropped:
                self.dropped.labels(*event.label, event.reason).inc(event.count)
            elif type(event) is AnswersCompared:
                for name, counter in self.shadow.items():
                    counter.labels(event.model, event.version, event.candidate).inc(getattr(event, name))
            elif type(event) is AnswersCounted:
                self._count_answers(event)
            elif type(event) is ItemsCaptured:
                self._count_captured(event)
            elif type(event) is FeedbackGiven:
                self.feedback.labels(event.model, event.version, event.outcome).inc(event.count)
            elif type(event) is SelfChecked:
                self.self_check_seconds.labels(*event.label).inc(event.seconds)
                self.self_check_failed.labels(*event.label).inc(event.failed)
        for key, count in requests.items():
            self.requests.labels(*key).inc(count)
        for of_key, count in keys.items():
            self.keys.labels(*of_key).inc(count)
        for histogram, values in (
            (self.latency, latency), (self.decode, decode), (self.batch_size, size),
            (self.queue_time, queue_time), (self.inference, inference),
        ):  # fmt: skip
            for labels, observed in values.items():
                observe_all(histogram.labels(*labels), observed)

    def _count_answers(self, event: AnswersCounted) -> None:
        observe_all(self.canary_seconds.labels(*event.label), event.seconds)
        self.canary_failed.labels(*event.label).inc(event.failed)
        self.canary_rated.labels(*event.label).inc(event.rated)
        self.canary_unfamiliar.labels(*event.label).inc(event.unfamiliar)
        for label, count in event.labels.items():
            self.canary_labels.labels(*event.label, label).inc(count)

    def _count_captured(self, event: ItemsCaptured) -> None:
        for strategy, count in event.kept.items():
            self.captured.labels(event.model, strategy).inc(count)
        for reason, count in event.dropped.items():
            self.not_captured.labels(event.model, reason).inc(count)
        if event.bytes is not None:
            self.captured_bytes.labels(event.model).set(event.bytes)

    def serve(self, served: Iterable[tuple[Label, str]]) -> None:
        """Says what is served now: the label and the device of each version."""
        now = {(*label, device) for label, device in served}
        for gone in self._served - now:
            if self.exposed is self.registry:
                self.device.remove(*gone)
                with contextlib.suppress(KeyError):  # nobody has asked for the metrics yet
                    self.queue_depth.remove(*gone[:-1])
            else:  # what several processes count cannot be removed
                self.device.labels(*gone).set(0)
        for label in now:
            self.device.labels(*label).set(1)
            for reason in typing.get_args(DropReason):  # counters are there from the start, at zero
                self.dropped.labels(*label[:-1], reason)
            self.self_check_failed.labels(*label[:-1])
        self._served = now


def observe_all(histogram: Histogram, values: Sequence[float]) -> None:
    """Observes many values at once, as `Histogram.observe` does one; relies on its undocumented attributes.

    Args:
        histogram: with its labels, if it has some.
        values: to observe.
    """
    histogram._sum.inc(sum(values))
    buckets = Counts(bisect_left(histogram._upper_bounds, value) for value in values)
    for bucket, count in buckets.items():
        histogram._buckets[bucket].inc(count)
