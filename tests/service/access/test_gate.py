"""The gate without a network: what passes without keys, browsers, rates, and whose turn a call takes.

`tests/test_gate.py` walks the routes of a real server.
"""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Request

from service.access.caller import actor
from service.access.gate import _key_of
from service.access.start import ring_of
from service.app import create_app
from service.settings import Settings
from service.stack.application import Application
from tests.keyed import bearer, write_keys
from tests.pictures import encode
from tests.tiny import solid, write_model

HERE = ("127.0.0.1", 1234)
THERE = ("192.0.2.7", 1234)


def with_admin_route(settings: Settings) -> Application:
    app = create_app(settings)

    @app.post("/v1/models/{name}/anything")
    async def promote(request: Request, name: str) -> str:
        return actor(request.scope)

    return app


@asynccontextmanager
async def client_of(
    app: Application, client: tuple[str, int] = HERE, url: str = "http://localhost:8000"
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app, client=client), base_url=url) as http,
    ):
        yield http


def keyed(models: Path, folder: Path, **entries: Any) -> Settings:
    return Settings(models=models, device="cpu", threads=1, keys=write_keys(folder / "keys.toml", **entries))


# Without keys.


@pytest.mark.parametrize("open_", [False, True])
async def test_without_keys_inference_is_open_and_administration_is_of_this_machine(tiny_models: Path, open_: bool):
    settings = Settings(models=tiny_models, device="cpu", threads=1, open=open_, host="0.0.0.0" if open_ else "::1")
    app = with_admin_route(settings)
    async with client_of(app) as client:
        assert (await client.get("/v1/models")).status_code == 200
        assert (await client.post("/v1/predict", content=encode(solid("red")))).status_code == 200
        assert (await client.post("/v1/models/classifier/anything")).json() == "loopback"
        # A client whose environment has a key for another server.
        assert (await client.get("/v1/models", headers=bearer("x"))).status_code == 200
    async with client_of(with_admin_route(settings), THERE) as client:
        assert (await client.get("/v1/models")).status_code == 200
        answer = await client.post("/v1/models/classifier/anything")
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert (
            "comes from another one: make a key with `quartet keys add NAME --scope admin`" in answer.json()["detail"]
        )
        assert (await client.get("/v1/models/classifier/shadow/examples/1")).status_code == 403
        assert (await client.get("/v1/models/classifier/audit")).status_code == 403


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Host": "127.0.0.1"}, True),
        ({"Host": "127.8.8.8:80"}, True),
        ({"Host": "[::1]:8000"}, True),
        ({"Host": "LOCALHOST:8000"}, True),
        ({"Host": "rebound.example:8000"}, False),
        ({"Host": "localhost.example"}, False),
        ({"Host": "127.0.0.1.example"}, False),
        ({"Host": "192.0.2.7"}, False),
        ({"Host": ""}, False),
        ({"Host": "[::1"}, True),
        ({"X-Forwarded-For": "192.0.2.7"}, False),
        ({"Forwarded": "for=127.0.0.1"}, False),
        ({"X-Real-IP": "127.0.0.1"}, False),
        ({"Via": "1.1 proxy"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:8000"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://localhost:8000"}, True),
        ({"Origin": "http://localhost:3000"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
async def test_a_page_or_a_proxy_does_not_administer_for_this_machine(
    settings: Settings, headers: Mapping[str, str], passes: bool
):
    async with client_of(with_admin_route(settings)) as client:
        answer = await client.post("/v1/models/classifier/anything", headers=headers)
        assert (answer.status_code == 200) == passes
        assert answer.status_code in (200, 403)


@pytest.mark.parametrize(
    ("address", "passes"), [("::1", True), ("::ffff:127.0.0.1", True), ("::ffff:192.0.2.7", False)]
)
async def test_other_addresses_of_this_machine(settings: Settings, address: str, passes: bool):
    async with client_of(with_admin_route(settings), (address, 1)) as client:
        assert ((await client.post("/v1/models/classifier/anything")).status_code == 200) == passes


async def test_an_application_that_others_reach_lets_nobody_in_without_a_key(tiny_models: Path):
    async with client_of(create_app(Settings(models=tiny_models, device="cpu", threads=1, host="0.0.0.0"))) as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/healthz/ready")).status_code == 200


async def test_a_websocket_is_refused(settings: Settings):
    app = create_app(settings)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody may read")

    await app({"type": "websocket", "path": "/v1/predict", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


# With keys.


async def test_a_path_behind_a_prefix_is_the_same_path(tiny_models: Path, tmp_path: Path):
    app = with_admin_route(keyed(tiny_models, tmp_path, alice={}, bob={"scopes": ["admin"]}))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, root_path="/below")
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            for path, key, status in (
                ("/below/healthz/live", "none", 200),
                ("/below/metrics", "alice", 403),
                ("/below/v1/models/classifier/anything", "alice", 403),
                ("/below/v1/models/classifier/anything", "bob", 200),
                ("/v1/models/classifier/anything", "alice", 403),
            ):
                method = "POST" if path.endswith("anything") else "GET"
                assert (await client.request(method, path, headers=bearer(key))).status_code == status, path


def basic(key: str, user: str = "") -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"}


async def test_a_browser_asks_for_the_key_as_a_password(tiny_models: Path, tmp_path: Path):
    app = with_admin_route(keyed(tiny_models, tmp_path, alice={"scopes": ["admin"]}))
    async with client_of(app) as client:
        for path in ("/", "/docs", "/docs/static/swagger-ui.css", "/models/classifier/1", "/openapi.json"):
            refused = await client.get(path)
            assert refused.status_code == 401
            assert refused.headers.get_list("www-authenticate")[0].startswith("Basic realm=")
            for user in ("", "alice", "anyone"):
                assert (await client.get(path, headers=basic("alice", user))).status_code == 200, path
        # The page shows its own dialogue for a key that its user has typed into it.
        for headers in (bearer("wrong"), {"X-API-Key": "wrong"}):
            refused = await client.get("/v1/models", headers=headers)
            assert refused.headers.get_list("www-authenticate") == ['Bearer realm="Quartet"']


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://localhost:8000"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
    ],
)
async def test_another_site_cannot_use_the_key_that_a_browser_keeps(
    tiny_models: Path, tmp_path: Path, headers: Mapping[str, str], passes: bool
):
    app = with_admin_route(keyed(tiny_models, tmp_path, alice={"scopes": ["admin"]}))
    async with client_of(app) as client:
        for path, body in (("/v1/models/classifier/anything", b""), ("/v1/predict", encode(solid("red")))):
            answer = await client.post(path, content=body, headers={**headers, **basic("alice")})
            assert answer.status_code == (200 if passes else 403)
            # A page has to know a key to send it otherwise.
            assert (await client.post(path, content=body, headers={**headers, **bearer("alice")})).status_code == 200


async def test_rates_are_refused_with_the_exact_time_and_stated(tiny_models: Path, tmp_path: Path):
    settings = keyed(
        tiny_models,
        tmp_path,
        alice={"scopes": ["admin"], "requests_per_second": 0.01, "burst": 300},
        bob={"items_per_second": 0.01, "burst": 500},
    )
    async with client_of(create_app(settings)) as client:
        for left in (2, 1, 0):
            answer = await client.get("/v1/models", headers=bearer("alice"))
            assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=300'
            assert answer.headers["ratelimit"].startswith(f'"requests";r={left};t=')
        refused = await client.get("/v1/models", headers=bearer("alice"))
        assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
        wait = int(refused.headers["retry-after"])
        assert 95 <= wait <= 100
        assert refused.headers["ratelimit"] == f'"requests";r=0;t={wait}'
        # Pages are many files, which cost nothing.
        for _ in range(5):
            assert (await client.get("/", headers=bearer("alice"))).status_code == 200

        image = encode(solid("red"))
        three = [("files", image)] * 3
        first = await client.post("/v1/predict", files=three, headers=bearer("bob"))
        assert first.status_code == 200
        assert first.headers["ratelimit"].startswith('"items";r=2;t=')
        refused = await client.post("/v1/predict", files=three, headers=bearer("bob"))
        assert refused.status_code == 429
        assert "'bob' has sent its items" in refused.json()["detail"]
        assert 95 <= int(refused.headers["retry-after"]) <= 100
        for _ in range(2):
            assert (await client.post("/v1/predict", content=image, headers=bearer("bob"))).status_code == 200
        assert (await client.post("/v1/predict", content=image, headers=bearer("bob"))).status_code == 429
        assert (await client.get("/v1/models", headers=bearer("bob"))).status_code == 200


async def test_a_refused_rate_is_hardly_held_back(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    held: list[float] = []
    settings = keyed(tiny_models, tmp_path, alice={"requests_per_second": 0.01})
    async with client_of(create_app(settings)) as client:
        await client.get("/v1/models", headers=bearer("alice"))

        async def sleep(seconds: float) -> None:
            held.append(seconds)

        # Only there: the server's own loops must sleep.
        monkeypatch.setattr("service.stack.failures.asyncio", SimpleNamespace(sleep=sleep))
        assert (await client.get("/v1/models", headers=bearer("alice"))).status_code == 429
        assert (await client.get("/v1/models")).status_code == 401
    assert [seconds for seconds in held if seconds] == [0.1]


async def test_a_key_takes_its_own_turn_with_its_weight(tiny_models: Path, tmp_path: Path):
    app = create_app(keyed(tiny_models, tmp_path, alice={"weight": 3}, bob={}))
    owners: list[tuple[Any, float]] = []
    async with client_of(app) as client:
        queue = app.repository.models["classifier"].batcher.admission.queue
        hold = queue.hold
        queue.hold = lambda call, count: owners.append((call.owner, call.weight)) or hold(call, count)
        for key in ("alice", "bob"):
            await client.post("/v1/predict", content=encode(solid("red")), headers=bearer(key))
    assert owners == [("alice", 3.0), ("bob", 1.0)]


async def test_a_key_that_is_remembered_still_ends(tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = keyed(tiny_models, tmp_path, alice="expires = 2030-01-01")
    async with client_of(create_app(settings)) as client:
        for time, status in ((1893455999, 200), (1893456000, 401), (1893455999, 200)):
            monkeypatch.setattr("service.access.gate.time.time", lambda now=time: now)
            assert (await client.get("/v1/models", headers=bearer("alice"))).status_code == status
        assert (await client.get("/v1/models", headers={"X-API-Key": "Bearer alice"})).status_code == 401
        assert (await client.get("/v1/models", headers={**bearer("alice"), "X-API-Key": "bob"})).status_code == 401


async def test_what_is_remembered_is_bounded(tiny_models: Path, tmp_path: Path):
    ring = ring_of(keyed(tiny_models, tmp_path, alice={}))
    scope = {"headers": [(b"authorization", b"")], "quartet.facts": {}}
    for spaces in range(3000):
        scope["quartet.headers"] = {b"authorization": b"Bearer " + spaces * b" " + b"alice"}
        assert _key_of(ring, scope, "GET").name == "alice"
    assert 0 < len(ring.known) <= 1024


async def test_the_keys_are_followed(tiny_models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    settings = keyed(tiny_models, tmp_path, alice={})
    async with client_of(create_app(settings)) as client:
        assert (await client.get("/v1/models", headers=bearer("bob"))).status_code == 401
        assert (await client.get("/v1/models", headers=bearer("alice"))).status_code == 200
        write_keys(tmp_path / "new", bob={}).replace(tmp_path / "keys.toml")
        for _ in range(600):
            if "read the keys in" in caplog.text:
                break
            await asyncio.sleep(0.1)
        assert (await client.get("/v1/models", headers=bearer("bob"))).status_code == 200
        assert (await client.get("/v1/models", headers=bearer("alice"))).status_code == 401


async def test_the_document_of_a_key_changes_with_the_models_that_it_sees(tmp_path: Path):
    models = tmp_path / "models"
    for name in ("classifier", "hidden"):
        write_model(models, name)
    settings = keyed(models, tmp_path, alice={"models": ["hidden"]}, bob={"models": []}, carol={})
    async with client_of(create_app(settings)) as client:
        for key, names in (("alice", {"hidden"}), ("bob", None), ("carol", {"classifier", "hidden"})):
            document = (await client.get("/openapi.json", headers=bearer(key))).json()
            (model,) = (
                each for each in document["paths"]["/v1/predict"]["post"]["parameters"] if each["name"] == "model"
            )
            found = model["schema"].get("examples")
            assert (found and {name.partition("/")[0] for name in found}) == names
            listed = (await client.get("/v1/models", headers=bearer(key))).json()["models"]
            assert {each["name"] for each in listed} == (names or set())
