"""OpenTelemetry traces: a span for each sampled request, with its stages as children.

The stages of a request are `admission`, `queue`, `batch` and `response`. A batch serves many requests, so it has a span
of its own, which is linked to the requests in it, and to which their `batch` spans are linked. All spans but a
request's own are made after the fact, by an observer.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceState, set_span_in_context
from opentelemetry.util.types import Attributes

from quartet import __version__
from service.inference.observers import BatchRan
from service.inference.trace import Trace
from service.observe.events import RequestEnded

_ROOT = Context()
# Facts of a request's log line that become attributes of its span.
_FACTS = ("model", "alias", "variant", "items", "key", "problem", "client")


class _OfSampledRequests(Sampler):
    """Samples the span of a batch if one of its requests is sampled; leaves requests to another sampler."""

    def __init__(self, of_requests: Sampler) -> None:
        self._of_requests = of_requests

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        if links:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        return self._of_requests.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self._of_requests.get_description()


class Tracing:
    """Begins the span of each request, and, as an observer, makes the others and ends it.

    Args:
        *processors: receive the spans.
        sampler: of requests; by default what OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say, or else all
            requests, unless the caller's context says that they are not sampled.
    """

    tensors = False

    def __init__(self, *processors: SpanProcessor, sampler: Sampler | None = None) -> None:
        named = "OTEL_SERVICE_NAME" in os.environ or SERVICE_NAME in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        resource = Resource.create({SERVICE_VERSION: __version__} | ({} if named else {SERVICE_NAME: "quartet"}))
        sampler = sampler or TracerProvider().sampler
        self._provider = TracerProvider(_OfSampledRequests(sampler), resource, shutdown_on_exit=False)
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("quartet", __version__)

    def begin(self, method: str, headers: Mapping[bytes, bytes], started: float) -> Trace | None:
        """Begins the span of a request; None if the request is not sampled.

        Args:
            method: of HTTP.
            headers: of the request, of which `traceparent` and `tracestate` are read.
            started: monotonic time.
        """
        parent = _ROOT
        if b"traceparent" in headers:
            carrier = {
                name: headers[key].decode("latin-1")
                for name, key in (("traceparent", b"traceparent"), ("tracestate", b"tracestate"))
                if key in headers
            }
            parent = extract(carrier, _ROOT)
        span = self._tracer.start_span(method, parent, SpanKind.SERVER)
        return Trace(span, started, time.time_ns() - time.monotonic_ns()) if span.is_recording() else None

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        for event in events:
            if type(event) is BatchRan:
                if event.traces:
                    self._trace_batch(event)
            elif type(event) is RequestEnded and event.trace is not None:
                self._end(event, event.trace)

    def close(self) -> None:
        """Sends what is left; takes up to the exporter's timeout."""
        self._provider.shutdown()

    def _trace_batch(self, batch: BatchRan) -> None:
        model, version, alias, variant = batch.label
        clock = batch.traces[0].wall_clock
        span = self._tracer.start_span(
            "batch",
            _ROOT,
            links=[Link(trace.span.get_span_context()) for trace in batch.traces],
            attributes={
                "quartet.model": model,
                "quartet.version": version,
                "quartet.alias": alias,
                "quartet.variant": variant,
                "quartet.batch.items": len(batch.queued),
            },
            start_time=clock(batch.started),
        )
        span.end(clock(batch.started + batch.seconds))
        batch.span = span.get_span_context()

    def _end(self, request: RequestEnded, trace: Trace) -> None:
        span, clock, ended = trace.span, trace.wall_clock, trace.started + request.seconds
        parent = set_span_in_context(span, _ROOT)

        def child(name: str, start: float, end: float, *links: SpanContext) -> None:
            made = self._tracer.start_span(name, parent, links=[*map(Link, links)] or None, start_time=clock(start))
            made.end(clock(max(start, end)))

        if trace.admitted:
            child("admission", trace.started, trace.admitted)
        answered = trace.admitted or trace.started
        for submitted, batch in trace.batches:
            child("queue", submitted, batch.started)
            answered = batch.started + batch.seconds
            child("batch", batch.started, answered, *([batch.span] if batch.span else []))
        if request.status:
            child("response", answered, ended)
        span.update_name(f"{request.method} {request.route}")
        span.set_attributes(
            {
                "http.request.method": request.method,
                "http.route": request.route,
                "quartet.request.id": request.id,
                **({"http.response.status_code": request.status} if request.status else {}),
                **{f"quartet.{name}": str(request.facts[name]) for name in _FACTS if name in request.facts},
            }
        )
        if request.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(clock(ended))


def from_environment() -> Tracing | None:
    """Traces as OpenTelemetry's environment variables configure them; None without an exporter.

    Raises:
        ValueError: OTEL_TRACES_EXPORTER names an exporter that is not offered.
    """
    named = os.environ.get("OTEL_TRACES_EXPORTER", "otlp")
    if named not in ("otlp", "console", "none"):
        raise ValueError(f"OTEL_TRACES_EXPORTER={named}: must be otlp, console or none")
    exporter: SpanExporter
    if named == "console":
        exporter = ConsoleSpanExporter()
    elif named == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    else:
        return None
    return Tracing(BatchSpanProcessor(exporter))
