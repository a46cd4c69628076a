"""Inference from an ordinary FastAPI route, by the dependency `call_scope`."""

import asyncio
import gc
import sys
from typing import Annotated, Any

import httpx
import numpy as np
from fastapi import Depends, FastAPI

from service.inference.scope import CallScope
from service.stack.exchange import call_scope
from tests.gated import Gated, rerun
from tests.tiny import solid


async def test_an_ordinary_route_runs_inference(app: FastAPI, client: httpx.AsyncClient):
    @app.post("/colour")
    async def colour(pixels: list[list[list[int]]], call: Annotated[CallScope, Depends(call_scope)]) -> str:
        model = call.lease("classifier")
        ((probabilities, *_),) = await call.infer(model, [np.array(pixels, np.uint8)])
        return model.manifest.labels[probabilities.argmax()]

    version = app.repository.models["classifier"]
    answer = await client.post("/colour", json=solid("green").tolist())
    assert (answer.status_code, answer.json()) == (200, "green")
    assert version.leases == version.batcher.admission.held == 0
    version.batcher.admission.closed = True
    refused = await client.post("/colour", json=solid("green").tolist())
    assert (refused.status_code, refused.json()["code"]) == (503, "not-ready")
    assert version.leases == 0


async def test_an_ordinary_route_is_cancelled_when_its_client_disconnects(app: FastAPI):
    model = Gated()
    rerun(app.repository.models["classifier"].batcher, model)

    @app.post("/wait")
    async def wait(call: Annotated[CallScope, Depends(call_scope)]) -> int:
        return len(await call.infer(call.lease("classifier"), [solid("green")]))

    gone, sent = asyncio.Event(), []
    body = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        if (message := next(body, None)) is None:
            await gone.wait()
        return message or {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/wait",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
    }
    answer = asyncio.create_task(app(scope, receive, send))
    await model.entered()
    gone.set()
    async with asyncio.timeout(10):
        await answer
    assert sent[0]["status"] == 499
    model.release(10)
    assert app.repository.models["classifier"].leases == 0


async def test_a_refused_body_is_freed_without_the_garbage_collector(app: FastAPI):
    body = bytes(range(200))
    headers = [(b"content-type", b"image/jpeg")]
    statuses: list[int] = []

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    async def request() -> None:
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(messages)

        await app({"type": "http", "method": "POST", "path": "/v1/predict", "query_string": b"", "headers": headers},
                  receive, send)  # fmt: skip

    before = sys.getrefcount(body)
    gc.disable()
    try:
        for _ in range(3):
            await request()
        app.observers.flush()
        await asyncio.sleep(0.05)
        assert sys.getrefcount(body) == before
    finally:
        gc.enable()
    assert statuses[0] == 422
