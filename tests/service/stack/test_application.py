"""An added middleware covers every route, endpoints too, and each family has its own error format."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pydantic_core
import pytest
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.app import Family, create_app
from service.errors import InvalidRequest, QuartetError
from service.settings import Settings
from service.stack.application import Application, Dispatch
from service.stack.endpoint import Endpoint
from service.stack.exchange import Answer, Exchange
from tests.pictures import encode
from tests.tiny import solid


class Deny:
    """An ordinary ASGI middleware, such as one for authentication."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
        await send({"type": "http.response.body", "body": b"who are you?"})


@asynccontextmanager
async def client_of(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


async def test_a_middleware_covers_every_route_of_the_document(settings: Settings):
    app = create_app(settings)
    app.add_middleware(Deny)
    document = create_app(settings).openapi()
    async with client_of(app) as client:
        asked = 0
        for path, operations in {**document["paths"], "/": {"get": {}}, "/docs": {"get": {}}}.items():
            for method in operations:
                answer = await client.request(method, path.replace("{name}", "classifier"))
                assert (answer.status_code, answer.text) == (401, "who are you?"), path
                # It is inside the layer that gives requests their ids and counts them.
                assert answer.headers["x-request-id"]
                asked += 1
        assert asked >= 15
        app.observers.flush()
        assert app.metrics.registry.get_sample_value(
            "quartet_requests_total", {"route": "other", "method": "POST", "status": "401"}
        )


async def test_layers_are_passed_in_the_order_in_which_they_were_added(settings: Settings):
    def layer(name: str) -> type:
        class Layer:
            def __init__(self, app: ASGIApp) -> None:
                self.app = app

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                passed.append(name)
                await self.app(scope, receive, send)

        return Layer

    passed: list[str] = []
    app = create_app(settings)
    for name in ("inner", "outer"):  # as in Starlette, the last one added is the outermost
        app.add_middleware(layer(name))
    async with client_of(app) as client:
        for path in ("/v1/predict", "/healthz/live"):
            passed.clear()
            await client.post(path, content=encode(solid("red")))
            assert passed == ["outer", "inner"], path


class NoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    loud: bool = False


async def start(app: Application) -> None:
    async with app.router.lifespan_context(app):
        pass


def other_format(failure: QuartetError, scope: Scope) -> Response:
    return JSONResponse({"error": failure.detail}, failure.status, failure.headers)


async def show(exchange: Exchange, query: NoOptions) -> Answer:
    """Returns its path parameters."""
    if exchange.path_params["name"] == "bad":
        raise InvalidRequest("Not that one.")
    return Answer(pydantic_core.to_json(exchange.path_params))


def v2() -> Family:
    endpoints = (
        Endpoint("/v9/models/{name}/versions/{version:int}/infer", NoOptions, show),
        Endpoint("/v9/models/{name}/infer", NoOptions, show),
    )
    ordinary = APIRouter()

    @ordinary.get("/v9/square")
    async def square(x: int) -> int:
        if x == 13:
            raise RuntimeError("a secret")
        return x * x

    return Family("/v9", endpoints, (ordinary,), other_format)


async def test_an_endpoint_has_path_parameters(settings: Settings):
    async with client_of(create_app(settings, families=[v2()])) as client:
        answer = await client.post("/v9/models/a%20b/infer")
        assert answer.json() == {"name": "a b"}
        answer = await client.post("/v9/models/cnn/versions/7/infer?loud=true")
        assert answer.json() == {"name": "cnn", "version": 7}
        text = (await client.get("/metrics")).text
        assert 'route="/v9/models/{name}/infer"' in text  # the pattern, not the path


async def test_every_failure_of_a_family_has_the_familys_format(settings: Settings):
    app = create_app(settings, families=[v2()])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://quartet") as client,
    ):
        for method, path, status, says in (
            ("POST", "/v9/models/bad/infer", 422, "Not that one."),
            ("POST", "/v9/models/x/infer?quiet=1", 422, "no parameter 'quiet'"),
            ("GET", "/v9/models/x/infer", 405, "does not take GET"),
            ("GET", "/v9/nowhere", 404, "nothing at /v9/nowhere"),
            ("GET", "/v9", 404, "nothing at /v9"),
            ("GET", "/v9/square?x=three", 422, "x"),
            ("GET", "/v9/square?x=13", 500, "inside the server"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, list(answer.json())) == (status, ["error"]), path
            assert says in answer.json()["error"]
        for path in ("/v1/nowhere", "/v92", "/elsewhere"):
            answer = await client.get(path)
            assert answer.headers["content-type"] == "application/problem+json", path


async def test_an_unknown_model_or_a_full_queue_is_refused_before_the_body_is_read(settings: Settings):
    app = create_app(settings)

    async def receive() -> dict[str, Any]:
        raise AssertionError("nobody may read")

    async def status_of(query: bytes) -> int:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"image/png"), (b"content-length", b"1000")]
        scope = {
            "type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict",
            "query_string": query, "headers": headers, "http_version": "1.1", "scheme": "http",
            "server": ("quartet", 80), "client": ("test", 1),
        }  # fmt: skip
        await app(scope, receive, send)
        return sent[0]["status"]

    async with app.router.lifespan_context(app):
        assert await status_of(b"model=nope") == 404
        assert await status_of(b"model=classifier/9") == 404
        assert await status_of(b"topk=1") == 422
        app.repository.models["classifier"].batcher.admission._max_queue = 0
        assert await status_of(b"") == 429


async def test_a_failure_to_start_is_kept(tmp_path: Path):
    app = create_app(Settings(models=tmp_path / "nowhere"))
    with pytest.raises(Exception, match="does not exist"):
        await start(app)
    assert "does not exist" in str(app.failure)


async def test_a_crowd_at_fastapis_routes_lets_others_in_between():
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        order.append("route")

    async def other() -> None:
        for _ in range(20):
            order.append("other")
            await asyncio.sleep(0)

    dispatch = Dispatch(app, [])
    scope = {"type": "http", "path": "/metrics", "method": "GET"}
    await asyncio.gather(*(dispatch(scope, None, None) for _ in range(5)), other())
    assert "route,route" not in ",".join(order)
    assert order.count("route") == 5
