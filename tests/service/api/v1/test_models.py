"""GET /v1/models: what is served and what was refused."""

import json
from pathlib import Path

import httpx
import pytest

from service.api.v1.models import ModelList, ModelSummary
from service.app import create_app
from service.settings import Settings
from tests.pictures import encode
from tests.tiny import solid, write_model, wrong_golden
from tests.tiny_variants import int8_graph, write_slow_model, write_variant


async def test_the_list(client: httpx.AsyncClient):
    answer = await client.get("/v1/models")
    listed = ModelList.model_validate_json(answer.content)
    assert listed.refused == {}
    (model,) = listed.models
    assert model.model_dump() == {
        "name": "classifier",
        "version": "1",
        "aliases": [],
        "default": True,
        "share": 1.0,
        "task": "classification",
        "description": "three colours",
        "device": "cpu",
        "fallback": None,
        "variant": "reference",
        "other_variants": {},
        "labels": 3,
        "metrics": {"accuracy": 1.0},
        "data": "colours",
        "drift": False,
        "feedback": False,
        "queue_depth": 0,
        "max_batch": 16,
    }


async def test_one_model_with_its_manifest(client: httpx.AsyncClient, tiny_models: Path):
    answer = await client.get("/v1/models/classifier")
    ModelSummary.model_validate_json(answer.content)
    written = json.loads((tiny_models / "classifier" / "1" / "manifest.json").read_text())
    assert answer.json()["manifest"] == {"format": 1, **written}


@pytest.mark.parametrize("name", ["nope", "classifier%2F2", "%00", "Classifier"])
async def test_an_unknown_model(client: httpx.AsyncClient, name: str):
    answer = await client.get(f"/v1/models/{name}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_refused_versions_are_listed_with_the_reason(tmp_path: Path):
    write_model(tmp_path, "b")
    write_model(tmp_path, "b", "2", change=wrong_golden)
    write_model(tmp_path, "a")
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        document = (await client.get("/v1/models")).json()
    assert [(model["name"], model["version"]) for model in document["models"]] == [("a", "1"), ("b", "1")]
    assert list(document["refused"]) == ["b/2"]
    assert "differs" in document["refused"]["b/2"]


@pytest.mark.parametrize(
    ("variant", "answers", "others"),
    [
        ("auto", "int8", {"float16": "it is meant for cuda"}),
        ("int8,classifier=reference", "reference", dict.fromkeys(("int8", "float16"), "reference was asked for")),
    ],
)
async def test_the_variant_that_answers_is_named_everywhere(
    tmp_path: Path, variant: str, answers: str, others: dict[str, str]
):
    folder = write_slow_model(tmp_path)
    write_variant(folder, int8_graph(), "float16", device="cuda")
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1, variant=variant))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        model = (await client.get("/v1/models/classifier")).json()
        answer = await client.post("/v1/predict", content=encode(solid("red")), headers={"Content-Type": "image/png"})
        metrics = (await client.get("/metrics")).text
    assert (model["variant"], model["other_variants"]) == (answers, others)
    # Its own figures.
    accuracy = 0.99 if answers == "int8" else 1.0
    assert model["metrics"] == {"accuracy": accuracy}
    assert model["manifest"]["metrics"]["accuracy"] == accuracy
    assert [each["name"] for each in model["manifest"]["variants"]] == ["int8", "float16"]
    assert answer.json()["variant"] == answers
    assert answer.json()["results"][0]["labels"][0]["label"] == "red"
    assert f'variant="{answers}"' in metrics
