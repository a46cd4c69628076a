"""GET /v1/status: the last hour, of the models that a key may know of."""

from collections.abc import Callable, Collection
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from service.api.v1.status import Hour
from service.app import create_app
from service.observe.figures import Figures, difference, read
from service.observe.history import History
from service.settings import Settings
from tests.keyed import bearer, write_keys
from tests.pictures import encode
from tests.tiny import solid, write_model


class Rows:
    """Adds rows when a test says so, and not every ten seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._period = 180_000_000

        async def run(history: History, measure: Callable[[], None], routes: Collection[str]) -> None:
            self._history, self._measure, self._routes = history, measure, routes
            self._before = self._read()

        monkeypatch.setattr(History, "run", run)

    def _read(self) -> Figures:
        return read(self._history._metrics.own.collect(), self._routes)

    async def add(self, app: FastAPI) -> None:
        app.observers.flush()
        self._measure()
        now, self._before, before = self._read(), self._read(), self._before
        self._period += 1
        await self._history.add(self._period, difference(now, before, 1.0))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Rows:
    return Rows(monkeypatch)


async def hour(client: httpx.AsyncClient, **query: str) -> Hour:
    return Hour.model_validate_json((await client.get("/v1/status", params=query)).content)


async def test_an_hour(rows: Rows, app: FastAPI, client: httpx.AsyncClient):
    empty = await hour(client)
    assert (empty.times, empty.requests, empty.models) == ([], [], [])
    for body in (encode(solid("red")), encode(solid("red")), b"none"):
        await client.post("/v1/predict", content=body)
    await rows.add(app)
    await rows.add(app)
    found = await hour(client)
    assert (found.step, found.times) == (10, [1_800_000_010, 1_800_000_020])
    assert (found.requests, found.errors) == ([0.3, 0], [0, 0])
    assert found.problems == {"undecodable-image": [0.1, 0]}
    assert (found.latency.p50[0] or 0) > 0
    assert found.latency.p99[1] is None
    assert (found.memory.resident[1] or 0) > 10e6
    assert found.memory.gpu_free == [None, None]
    assert found.queue.items == [0.2, 0]
    assert (found.queue.batch.p50[0] or 0) > 0
    assert (found.queue.batch_size, found.queue.waiting, found.queue.dropped) == ([1, None], [0, 0], [0, 0])
    (model,) = found.models
    assert (model.name, model.items, model.batch_size, model.waiting) == ("classifier", 2, 1, 0)
    of_model = await hour(client, model="classifier")
    assert (of_model.model, of_model.queue) == ("classifier", found.queue)


async def test_an_answer_is_made_once_for_each_row(rows: Rows, app: FastAPI, client: httpx.AsyncClient):
    await rows.add(app)
    answer = await client.get("/v1/status")
    assert answer.headers["content-encoding"] == "gzip"
    tag = {"if-none-match": answer.headers["etag"]}
    assert (await client.get("/v1/status", headers=tag)).status_code == 304
    plain = await client.get("/v1/status", headers={"accept-encoding": "identity"})
    assert plain.content == answer.content
    assert "content-encoding" not in plain.headers
    await rows.add(app)
    assert (await client.get("/v1/status", headers=tag)).status_code == 200


async def test_a_model_that_is_not_there(rows: Rows, app: FastAPI, client: httpx.AsyncClient):
    await rows.add(app)
    unknown = await client.get("/v1/status?model=absent")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-model")
    assert (await client.get("/v1/status?model=")).status_code == 422
    idle = await hour(client, model="classifier")
    assert (idle.queue.items, idle.queue.wait.p95, idle.models) == ([0], [None], [])


async def test_a_key_sees_its_models_alone(rows: Rows, tmp_path: Path):
    models = tmp_path / "models"
    for name in ("secretive", "visible"):
        write_model(models, name)
    keys = write_keys(
        tmp_path / "keys.toml",
        all={"scopes": ["infer", "metrics"]},
        one={"scopes": ["metrics"], "models": ["visible"]},
        infer={"scopes": ["infer"]},
    )
    app = create_app(Settings(models=models, device="cpu", threads=1, keys=keys))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        refused = await client.get("/v1/status", headers=bearer("infer"))
        assert refused.status_code == 403
        assert "lacks the scope 'metrics'" in refused.json()["detail"]
        assert (await client.get("/v1/status")).status_code == 401
        for name in ("secretive", "secretive", "visible"):
            answer = await client.post(f"/v1/predict?model={name}", content=encode(solid("red")), headers=bearer("all"))
            assert answer.status_code == 200
        await rows.add(app)
        whole = (await client.get("/v1/status", headers=bearer("all"))).json()
        assert {each["name"]: each["items"] for each in whole["models"]} == {"secretive": 2, "visible": 1}
        seen = await client.get("/v1/status", headers=bearer("one"))
        assert [each["name"] for each in seen.json()["models"]] == ["visible"]
        assert (seen.json()["queue"]["items"], whole["queue"]["items"]) == ([0.1], [0.3])
        assert b"secretive" not in seen.content
        hidden = await client.get("/v1/status?model=secretive", headers=bearer("one"))
        assert hidden.status_code == 404
        assert hidden.json()["detail"] == "No model 'secretive' is served: there are visible."
