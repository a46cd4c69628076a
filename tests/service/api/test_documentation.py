"""The OpenAPI document states what the models that are served accept."""

from pathlib import Path
from typing import Any

import httpx

from service.app import create_app
from service.settings import Settings
from tests.pictures import encode
from tests.tiny import solid, write_model
from tests.tiny_autoencoder import write_autoencoder
from tests.tiny_detector import write_detector
from tests.tiny_tabular import COLUMNS, write_tabular
from tests.tiny_text import write_topics


async def operations_of(models: Path, **settings: Any) -> dict[str, Any]:
    """The document's operations, by their paths, while the models are served."""
    app = create_app(Settings(models=models, device="cpu", threads=1, **settings))
    async with app.router.lifespan_context(app):
        return {path: item["post"] for path, item in app.openapi()["paths"].items() if "post" in item}


def options(operation: dict[str, Any]) -> dict[str, Any]:
    return {parameter["name"]: parameter for parameter in operation["parameters"]}


def body(operation: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return operation["requestBody"]["content"][media_type]["schema"]


async def test_the_bounds_of_what_is_served(tmp_path: Path):
    for write in (write_model, write_detector, write_autoencoder, write_topics, write_tabular):
        write(tmp_path)
    operations = await operations_of(tmp_path, max_items=50)
    for path in ("/v1/predict", "/v1/classify-text"):
        coverage = options(operations[path])["coverage"]["schema"]
        assert coverage == {"type": "number", "exclusiveMinimum": 0, "maximum": 0.95}
    detect = options(operations["/v1/detect"])
    assert detect["precision"]["schema"]["maximum"] < detect["recall"]["schema"]["maximum"] == 1
    assert detect["classes"]["schema"]["items"]["enum"] == ["red", "green", "blue"]
    assert (detect["classes"]["style"], detect["classes"]["explode"]) == ("form", False)
    latents = body(operations["/v1/decode"])["properties"]["latents"]
    assert (latents["maxItems"], latents["items"]["minItems"], latents["items"]["maxItems"]) == (50, 4, 4)
    generate = body(operations["/v1/generate"])["properties"]
    assert generate["count"]["maximum"] == 50
    assert generate["label"]["anyOf"] == [{"type": "string", "enum": ["dark", "light"]}, {"type": "null"}]
    assert operations["/v1/generate"]["requestBody"]["required"] is False
    assert next(iter(operations["/v1/generate"]["responses"]["200"]["content"])) == "image/png"
    row = body(operations["/v1/predict-tabular"])["properties"]["rows"]["items"]
    assert (row["required"], row["additionalProperties"]) == (list(COLUMNS), False)
    assert [each["required"] for each in body(operations["/v1/classify-text"])["oneOf"]] == [["texts"], ["text"]]
    # Null cannot be written in a query.
    assert not any(
        "null" in str(option["schema"]) for path in operations for option in options(operations[path]).values()
    )


async def test_pictures_are_files_to_choose_first(tmp_path: Path):
    for write in (write_model, write_detector, write_autoencoder):
        write(tmp_path)
    operations = await operations_of(tmp_path)
    for path in ("/v1/predict", "/v1/detect", "/v1/encode", "/v1/reconstruct"):
        content = operations[path]["requestBody"]["content"]
        assert next(iter(content)) == "multipart/form-data", path
        assert content["multipart/form-data"]["schema"]["properties"]["files"]["items"]["format"] == "binary"


async def test_several_models_of_a_task(tmp_path: Path):
    write_model(tmp_path, "one")
    write_model(
        tmp_path, "two", conformal=[{"coverage": 0.8, "threshold": 0.6, "test_coverage": 1, "mean_set_size": 1}]
    )
    predict = options((await operations_of(tmp_path))["/v1/predict"])
    assert [each["maximum"] for each in predict["coverage"]["schema"]["anyOf"]] == [0.95, 0.8]
    assert predict["model"]["schema"]["enum"] == ["one", "one/1", "one/latest", "two", "two/1", "two/latest"]
    # The default is none of them.
    assert predict["model"]["required"]
    assert "default" not in predict["model"]["schema"]


async def test_a_task_that_nothing_serves(tmp_path: Path):
    write_model(tmp_path)
    operations = await operations_of(tmp_path)
    decode = options(operations["/v1/decode"])["model"]
    assert (decode["required"], decode["schema"]["default"]) == (False, "decoder")
    assert "enum" not in decode["schema"]
    assert "minItems" not in body(operations["/v1/decode"])["properties"]["latents"]["items"]
    predict = options(operations["/v1/predict"])["model"]
    assert (predict["required"], predict["schema"]["default"]) == (False, "classifier")
    assert predict["schema"]["enum"] == ["classifier", "classifier/1", "classifier/latest"]


async def test_a_lone_model_answers_where_a_request_names_none(tmp_path: Path):
    write_model(tmp_path, "mine")
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        predict = options(app.openapi()["paths"]["/v1/predict"]["post"])["model"]
        assert (predict["required"], predict["schema"]["default"]) == (False, "mine")
        assert predict["schema"]["enum"] == ["mine", "mine/1", "mine/latest"]
        headers = {"content-type": "image/png"}
        answer = await client.post("/v1/predict", content=encode(solid("green")), headers=headers)
        assert answer.json()["model"] == "mine"
        assert answer.json()["results"][0]["labels"][0]["label"] == "green"
        # A name that is given is meant.
        answer = await client.post("/v1/predict?model=classifier", content=encode(solid("green")), headers=headers)
        assert answer.status_code == 404
    write_model(tmp_path, "other")
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        answer = await client.post("/v1/predict", content=encode(solid("green")), headers=headers)
        assert answer.status_code == 404
