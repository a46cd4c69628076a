"""The registry, and a task from outside the package: served, documented and listed without changing the service."""

import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from service.tasks.registry import BUILT_IN, Registry
from tests.tiny import manifest, write_model
from tests.toy import COLOURS

UNUSED = dict.fromkeys(("image", "metrics", "calibration", "conformal"))


def write_namer(models: Path) -> None:
    folder = write_model(models, "namer")
    card = json.loads((folder / "manifest.json").read_text())
    card = {name: value for name, value in card.items() if name not in UNUSED}
    (folder / "manifest.json").write_text(json.dumps({**card, "task": "colours", "side": 8}))


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    write_model(tmp_path)
    write_namer(tmp_path)
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1), BUILT_IN.with_tasks(COLOURS))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


async def test_it_is_served(client: httpx.AsyncClient):
    answer = await client.post("/v1/name-colours", json=["#e6141e", "#141ee6"])
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "namer", "version": "1", "device": "cpu", "variant": "reference",
        "results": [{"name": "red"}, {"name": "blue"}],
    }  # fmt: skip
    assert "server-timing" in answer.headers
    refused = await client.post("/v1/name-colours", json={"red": True})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert (await client.post("/v1/name-colours?model=classifier", json=[])).json()["type"].endswith("wrong-task")
    assert (
        'quartet_batch_size_count{alias="",model="namer",variant="reference",version="1"}'
        in (await client.get("/metrics")).text
    )


async def test_it_is_documented_with_an_example_that_runs(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/name-colours"]["post"]
    assert operation["summary"] == "Name colours"
    assert operation["description"] == "Says what colours are called."
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert len(example) == 8  # from the served model's manifest
    answer = await client.post("/v1/name-colours", json=example)
    assert answer.json()["results"] == [{"name": "green"}] * 8


async def test_it_is_listed(client: httpx.AsyncClient):
    listed = {model["name"]: model["task"] for model in (await client.get("/v1/models")).json()["models"]}
    assert listed == {"classifier": "classification", "namer": "colours"}
    detail = (await client.get("/v1/models/namer")).json()
    assert detail["manifest"]["side"] == 8


async def test_without_it_the_model_is_refused_and_the_others_serve(tmp_path: Path):
    write_model(tmp_path)
    write_namer(tmp_path)
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with app.router.lifespan_context(app):
        assert list(app.repository.models) == ["classifier"]
        assert "task: 'colours' is not one of classification, detection" in app.repository.refused["namer/1"]


def test_names_are_unique_and_correct():
    with pytest.raises(ValueError, match="two tasks are called colours"):
        Registry(COLOURS, COLOURS)
    other = dataclasses.replace(COLOURS, name="other")
    with pytest.raises(ValueError, match="two operations are called name-colours"):
        Registry(COLOURS, other)
    with pytest.raises(ValueError, match="the task hues has the manifest of colours"):
        Registry(dataclasses.replace(COLOURS, name="hues"))


def test_one_name_for_each_task():
    assert list(BUILT_IN.tasks) == [
        "classification", "detection", "autoencoder", "encoder", "decoder", "text", "tabular", "tensors",
    ]  # fmt: skip
    assert manifest()["task"] in BUILT_IN.tasks
