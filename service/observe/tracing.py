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
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    SpanContext,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from quartet import __version__
from service.inference.observers import BatchRan
from service.inference.trace import Trace
from service.observe.events import RequestEnded

_ROOT = Context()
_PROPAGATOR = TraceContextTextMapPropagator()
# Facts of a request's log line that become attributes of its span.
_FACTS = ("model", "alias", "variant", "items", "key", "problem", "client")


class _Head(Sampler, RandomIdGenerator):
    """Decides whether a request is sampled before there is a span, since even one that records nothing takes long.

    The tracer asks for a trace's id and for the decision, and gets those that are made already. All other spans, of
    stages and of batches, are made for sampled requests alone.

    Args:
        of_requests: makes the decision.
    """

    def __init__(self, of_requests: Sampler) -> None:
        self._of_requests = of_requests
        self._trace_id: int | None = None
        self._decision: SamplingResult | None = None

    def samples(self, name: str, parent: Context) -> bool:
        """Whether a request is sampled; if so, its span has to be started next."""
        given = INVALID_SPAN_CONTEXT if parent is _ROOT else get_current_span(parent).get_span_context()
        trace_id = given.trace_id if given.is_valid else super().generate_trace_id()
        decision = self._of_requests.should_sample(parent, trace_id, name, SpanKind.SERVER)
        if decision.decision is not Decision.RECORD_AND_SAMPLE:
            return False
        self._decision = decision
        self._trace_id = None if given.is_valid else trace_id
        return True

    def generate_trace_id(self) -> int:
        trace_id, self._trace_id = self._trace_id, None
        return super().generate_trace_id() if trace_id is None else trace_id

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        decision, self._decision = self._decision, None
        return decision or SamplingResult(Decision.RECORD_AND_SAMPLE)

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
        self._head = _Head(sampler or TracerProvider().sampler)
        self._provider = TracerProvider(self._head, resource, shutdown_on_exit=False, id_generator=self._head)
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
        if (traceparent := headers.get(b"traceparent")) is not None:
            carrier = {"traceparent": traceparent.decode("latin-1")}
            if (tracestate := headers.get(b"tracestate")) is not None:
                carrier["tracestate"] = tracestate.decode("latin-1")
            parent = _PROPAGATOR.extract(carrier, _ROOT)
        if not self._head.samples(method, parent):
            return None
        span = self._tracer.start_span(method, parent, SpanKind.SERVER)
        return Trace(span, started, time.time_ns() - time.monotonic_ns())

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
            start_time=clock(batch.started),
        )
        span.set_attributes(
            {
                "quartet.model": model,
                "quartet.version": version,
                "quartet.alias": alias,
                "quartet.variant": variant,
                "quartet.batch.items": len(batch.queued),
            }
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
