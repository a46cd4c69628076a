"""Traces: a span for each request with its stages, and one for a batch that several requests share."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult, TraceIdRatioBased

from service.app import create_app
from service.inference.scope import CallScope
from service.observe.events import RequestEnded
from service.observe.traces import configured_tracing
from service.observe.tracing import Tracing
from service.settings import Settings
from service.stack.application import Application
from tests.pictures import encode
from tests.tiny import solid, write_model

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PNG = {"content-type": "image/png"}


class Traced:
    """A service with traces, and the spans that it exported."""

    def __init__(self, app: Application, client: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
        self.app, self.client, self._exporter = app, client, exporter

    async def predict(self, **headers: str) -> httpx.Response:
        return await self.client.post("/v1/predict", content=encode(solid("red")), headers=PNG | headers)

    async def call(self) -> None:
        """A request whose item needs no thread to be decoded, so that others can share its batch for certain."""
        app, started = self.app, time.monotonic()
        trace = app.begin_trace("POST", {}, started)
        async with CallScope(app.repository, observers=app.observers, trace=trace) as call:
            await call.infer(call.lease("classifier"), [solid("red")])
        seconds = time.monotonic() - started
        app.observers.publish(RequestEnded("a-1", "POST", "/call", "/call", {}, 200, seconds, time.time(), trace))

    async def spans(self) -> list[ReadableSpan]:
        await asyncio.sleep(0.15)  # events are delivered together
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def sampler() -> Sampler:
    return ParentBased(ALWAYS_ON)


@pytest.fixture
async def traced(tmp_path: Path, sampler: Sampler) -> AsyncIterator[Traced]:
    write_model(tmp_path)
    exporter = InMemorySpanExporter()
    app = create_app(
        Settings(models=tmp_path, device="cpu"), tracing=Tracing(SimpleSpanProcessor(exporter), sampler=sampler)
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield Traced(app, client, exporter)


def named(spans: list[ReadableSpan], name: str, root: bool | None = None) -> list[ReadableSpan]:
    return [each for each in spans if each.name == name and root in (None, each.parent is None)]


def trace_id(span: ReadableSpan) -> int:
    return span.get_span_context().trace_id


async def test_a_request_has_its_stages_as_children(traced: Traced):
    assert (await traced.predict()).status_code == 200
    spans = await traced.spans()
    (request,) = named(spans, "POST /v1/predict")
    stages = [each for each in spans if each.parent and each.parent.span_id == request.get_span_context().span_id]
    assert [each.name for each in stages] == ["admission", "queue", "batch", "response"]
    times = [time for each in stages for time in (each.start_time, each.end_time)]
    assert times == sorted(times)
    assert request.start_time <= times[1]
    assert request.attributes["quartet.model"] == "classifier/1"
    assert request.attributes["http.response.status_code"] == 200


async def test_three_requests_share_the_span_of_their_batch(traced: Traced):
    await asyncio.gather(*(traced.call() for _ in range(3)))
    spans = await traced.spans()
    requests = named(spans, "POST /call")
    (shared,) = named(spans, "batch", root=True)
    assert (len(requests), len(shared.links)) == (3, 3)
    assert {link.context.trace_id for link in shared.links} == {trace_id(each) for each in requests}
    assert shared.attributes["quartet.batch.items"] == 3
    own = named(spans, "batch", root=False)
    assert [link.context.span_id for each in own for link in each.links] == [shared.get_span_context().span_id] * 3
    assert len({trace_id(each) for each in (*requests, shared)}) == 4


async def test_the_callers_context_is_the_parent(traced: Traced):
    answer = await traced.predict(traceparent=f"00-{TRACE}-{PARENT}-01")
    (request,) = named(await traced.spans(), "POST /v1/predict")
    assert (f"{trace_id(request):032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert request.attributes["quartet.request.id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("header", [f"00-{TRACE}-{PARENT}-00"])
async def test_a_request_that_its_caller_does_not_sample_has_no_span(traced: Traced, header: str):
    await traced.predict(traceparent=header)
    assert await traced.spans() == []


async def test_a_malformed_context_is_ignored(traced: Traced):
    assert (await traced.predict(traceparent="00-zz")).status_code == 200
    (request,) = named(await traced.spans(), "POST /v1/predict")
    assert request.parent is None


async def test_a_refused_request_has_a_span_with_its_problem(traced: Traced):
    answer = await traced.client.post("/v1/predict?top_k=none", content=b"x", headers=PNG)
    (request,) = named(await traced.spans(), "POST /v1/predict")
    assert request.attributes["http.response.status_code"] == answer.status_code == 422
    assert request.attributes["quartet.problem"] == "invalid-request"


@pytest.mark.parametrize("sampler", [ParentBased(TraceIdRatioBased(0.0))])
async def test_without_a_sampled_request_there_is_no_span(traced: Traced):
    await traced.predict()
    assert await traced.spans() == []


class Drawn(TraceIdRatioBased):
    """Keeps the ids for which it decided, and adds an attribute."""

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self.ids: list[int] = []

    def should_sample(self, parent_context: Any, trace_id: int, *arguments: Any, **options: Any) -> SamplingResult:
        self.ids.append(trace_id)
        decision = super().should_sample(parent_context, trace_id, *arguments, **options).decision
        return SamplingResult(decision, {"drawn": True} if decision.is_sampled() else None)


def test_the_decision_is_made_once_and_before_there_is_a_span(monkeypatch: pytest.MonkeyPatch):
    sampler, exporter = Drawn(0.5), InMemorySpanExporter()
    tracing = Tracing(SimpleSpanProcessor(exporter), sampler=sampler)
    begun = [tracing.begin("POST", {}, 1.0) for _ in range(64)]
    traces = [trace.span.get_span_context().trace_id if trace else None for trace in begun]
    assert len(sampler.ids) == 64
    assert traces == [each if each % 2**64 < sampler.bound else None for each in sampler.ids]
    assert 0 < sum(trace is not None for trace in traces) < 64
    for trace in filter(None, begun):
        assert trace.span.attributes == {"drawn": True}
    # A parent's id is not taken for that of a later request.
    follow, alone = (
        tracing.begin("POST", headers, 1.0)
        for headers in ({b"traceparent": f"00-{'0' * 31}1-{PARENT}-01".encode()}, {})
    )
    assert follow is not None
    assert follow.span.get_span_context().trace_id == 1
    assert alone is None or alone.span.get_span_context().trace_id == sampler.ids[-1]
    monkeypatch.setattr(sampler, "_bound", 0)
    monkeypatch.setattr(tracing._tracer, "start_span", lambda *_: pytest.fail("there is a span"))
    assert tracing.begin("POST", {}, 1.0) is None


def test_traces_are_off_unless_an_exporter_is_configured(monkeypatch: pytest.MonkeyPatch):
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert configured_tracing() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert configured_tracing() is None
    monkeypatch.setenv("OTEL_SDK_DISABLED", "false")
    tracing: Any = configured_tracing()
    tracing.close()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "jaeger")
    with pytest.raises(ValueError, match="must be otlp, console or none"):
        configured_tracing()
