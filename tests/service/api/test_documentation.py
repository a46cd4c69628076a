"""The OpenAPI document states what the models that are served accept."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.keyed import write_keys
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
        document = app.openapi()
        schemas = document["components"]["schemas"]
        operations = {path: item["post"] for path, item in document["paths"].items() if "post" in item}
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if reference := content["schema"].get("$ref"):
                    content["schema"] = schemas[reference.rpartition("/")[2]]
        return operations


def options(operation: dict[str, Any]) -> dict[str, Any]:
    return {parameter["name"]: parameter for parameter in operation.get("parameters", ())}


def body(operation: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return operation["requestBody"]["content"][media_type]["schema"]


async def test_the_bounds_of_what_is_served(tmp_path: Path):
    for write in (write_model, write_detector, write_autoencoder, write_topics, write_tabular):
        write(tmp_path)
    operations = await operations_of(tmp_path, max_items=50)
    for path in ("/v1/predict", "/v1/classify-text"):
        coverage = options(operations[path])["coverage"]["schema"]
        assert coverage == {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "maximum": 0.95}
    detect = options(operations["/v1/detect"])
    assert detect["precision"]["schema"]["maximum"] < detect["recall"]["schema"]["maximum"] == 1
    assert detect["classes"]["schema"] == {"type": "string", "examples": ["red,green,blue"]}
    latents = body(operations["/v1/decode"])["properties"]["latents"]
    assert (latents["maxItems"], latents["items"]["minItems"], latents["items"]["maxItems"]) == (50, 4, 4)
    generate = options(operations["/v1/generate"])
    assert generate["count"]["schema"]["maximum"] == 50
    assert generate["label"]["schema"] == {"type": "string", "examples": ["dark", "light"]}
    assert body(operations["/v1/generate"])["deprecated"] is True
    assert operations["/v1/generate"]["requestBody"]["required"] is False
    assert next(iter(operations["/v1/generate"]["responses"]["200"]["content"])) == "image/png"
    row = body(operations["/v1/predict-tabular"])["properties"]["rows"]["items"]
    assert (row["required"], row["additionalProperties"]) == (list(COLUMNS), False)
    texts = body(operations["/v1/classify-text"])
    assert (list(texts["properties"]), texts["minProperties"], texts["maxProperties"]) == (["texts", "text"], 1, 1)
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
    # What any of them accepts.
    assert predict["coverage"]["schema"]["maximum"] == 0.95
    assert predict["model"]["schema"]["examples"] == ["one", "one/1", "one/latest", "two", "two/1", "two/latest"]
    # The default is none of them.
    assert predict["model"]["required"]
    assert "default" not in predict["model"]["schema"]


async def test_a_task_that_nothing_serves(tmp_path: Path):
    write_model(tmp_path)
    operations = await operations_of(tmp_path)
    decode = options(operations["/v1/decode"])["model"]
    assert (decode["required"], decode["schema"]["default"]) == (False, "decoder")
    assert "examples" not in decode["schema"]
    assert "minItems" not in body(operations["/v1/decode"])["properties"]["latents"]["items"]
    predict = options(operations["/v1/predict"])["model"]
    assert (predict["required"], predict["schema"]["default"]) == (False, "classifier")
    assert predict["schema"]["examples"] == ["classifier", "classifier/1", "classifier/latest"]


async def test_a_lone_model_answers_where_a_request_names_none(tmp_path: Path):
    write_model(tmp_path, "mine")
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        predict = options(app.openapi()["paths"]["/v1/predict"]["post"])["model"]
        assert (predict["required"], predict["schema"]["default"]) == (False, "mine")
        assert predict["schema"]["examples"] == ["mine", "mine/1", "mine/latest"]
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


async def test_what_generated_clients_rely_on(settings: Settings):
    document = create_app(settings).openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and len(name) < 20 for name in names)
    assert {"predict", "detect", "generate", "classify_text", "predict_tabular", "encode", "decode", "reconstruct"} < {
        *names
    }
    assert {tag["name"] for tag in document["tags"]} == {tag for operation in operations for tag in operation["tags"]}
    assert all(tag["description"] for tag in document["tags"])
    assert document["servers"] == [{"url": "/"}]
    assert document["info"]["license"] == {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
    # Names of Python modules in the name of a schema tell that two classes share a name.
    assert all(name.isalnum() for name in document["components"]["schemas"])
    # Nothing has an enumeration of models or labels: clients would know only those of the day.
    for operation in operations:
        for parameter in operation.get("parameters", ()):
            assert parameter["name"] in ("invert", "format") or "enum" not in str(parameter["schema"])


@pytest.mark.parametrize("keyed", [False, True])
async def test_every_operation_says_how_to_send_a_key_and_what_is_refused(
    settings: Settings, tmp_path: Path, keyed: bool
):
    if keyed:
        settings = settings.model_copy(update={"keys": write_keys(tmp_path / "keys.toml", alice={})})
    document = create_app(settings).openapi()
    assert set(document["components"]["securitySchemes"]) == {"Bearer", "X-API-Key"}
    # Without keys, one may be sent, but need not.
    assert ({} in document["security"]) is not keyed
    for path, item in document["paths"].items():
        for operation in item.values():
            public = path.startswith("/healthz")
            assert operation.get("security") == ([] if public else None)
            assert public or {"401", "403", "414", "429"} < operation["responses"].keys()
            for status, response in operation["responses"].items():
                assert status == "200" or response == {"$ref": f"#/components/responses/Problem{status}"}
    assert document["components"]["responses"].keys() == {
        f"Problem{status}" for status in (401, 403, 404, 409, 413, 414, 415, 422, 429, 500, 503, 504)
    }
