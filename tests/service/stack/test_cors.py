"""Web pages of other origins may call the API where a setting allows it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.keyed import bearer, write_keys
from tests.pictures import encode
from tests.tiny import solid

PAGE = "https://page.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-user",
}
PNG = {"content-type": "image/png"}


@asynccontextmanager
async def client_of(settings: Settings, *origins: str, **more: object) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings.model_copy(update={"cors_origins": origins, **more}))
    # As with a real server, an exception does not reach the client.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        client.app = app
        yield client


@pytest.mark.parametrize("origin", ["*", PAGE])
async def test_a_page_with_a_key(settings: Settings, tmp_path: Path, origin: str):
    async with client_of(settings, origin, keys=write_keys(tmp_path / "keys.toml", alice={})) as client:
        # The browser asks first, without the key.
        asked = await client.options("/v1/predict", headers=PREFLIGHT)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == origin
        assert "POST" in asked.headers["access-control-allow-methods"]
        assert asked.headers["access-control-allow-headers"] == "authorization,content-type,x-user"
        assert "access-control-allow-credentials" not in asked.headers
        headers = {"Origin": PAGE, **PNG}
        answer = await client.post("/v1/predict", content=encode(solid("red")), headers={**headers, **bearer("alice")})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        exposed = answer.headers["access-control-expose-headers"]
        assert all(name in exposed for name in ("X-Request-ID", "Server-Timing", "X-Seed", "Retry-After", "RateLimit"))
        refused = await client.post("/v1/predict", content=encode(solid("red")), headers=headers)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin)


async def test_other_origins(settings: Settings):
    async with client_of(settings, "https://other.example") as client:
        assert (await client.options("/v1/predict", headers=PREFLIGHT)).status_code == 400
        answer = await client.get("/v1/models", headers={"Origin": PAGE})
        assert "access-control-allow-origin" not in answer.headers
    async with client_of(settings) as client:
        answer = await client.get("/v1/models", headers={"Origin": PAGE})
        assert "access-control-allow-origin" not in answer.headers


async def test_a_fault_reaches_the_page(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    async with client_of(settings, "*") as client:
        with monkeypatch.context() as patch:
            patch.setattr(client.app, "threads", None)
            answer = await client.post("/v1/predict", content=encode(solid("red")), headers={"Origin": PAGE, **PNG})
        assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
        assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_page_does_not_administer(settings: Settings):
    async with client_of(settings, "*") as client:
        answer = await client.post("/v1/models/classifier/pin", json={"version": "1"}, headers={"Origin": PAGE})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
