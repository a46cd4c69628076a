"""How unlike the training data an input is, in the answers of every task whose model tells."""

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from service.app import create_app
from service.settings import Settings
from service.tasks.classification.manifest import ClassifierManifest
from tests.pictures import encode
from tests.tiny import manifest, write_model
from tests.tiny_autoencoder import write_autoencoder
from tests.tiny_detector import write_detector
from tests.tiny_familiar import CARD, make_familiar
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics

PNG = {"content-type": "image/png"}
OUTPUT = {"name": "unfamiliar", "dtype": "float32", "shape": [-1]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    make_familiar(write_model(models), 255)
    write_model(models, "old")
    write_topics(models)
    make_familiar(models / "topics" / "1", 10)
    write_tabular(models)
    make_familiar(models / "tabular" / "1", 100)
    write_tabular(models, "sum", "regression")
    make_familiar(models / "sum" / "1", 100)
    write_autoencoder(models)
    make_familiar(models / "encoder" / "1", 255)
    make_familiar(models / "autoencoder" / "1", 255)
    make_familiar(write_detector(models), 255)
    return models


@pytest.fixture
async def client(models):
    app = create_app(Settings(models=models, device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        yield client


def grey(level: int, side: int = 8) -> bytes:
    return encode(np.full((side, side, 3), level, np.uint8))


async def test_pictures_of_which_one_is_unfamiliar(client):
    files = [("files", (name, grey(level))) for name, level in (("light", 204), ("dark", 2))]
    answer = (await client.post("/v1/predict?coverage=0.9", files=files)).json()
    assert [result["typicality"] for result in answer["results"]] == pytest.approx([0.8, 2 / 255], abs=1e-6)
    # The former name.
    assert all(result["unfamiliar"] == result["typicality"] for result in answer["results"])
    assert all(len(result["labels"]) == 3 for result in answer["results"])
    light, dark = (await client.post("/v1/predict?coverage=0.9&strict=true", files=files)).json()["results"]
    assert light == answer["results"][0]
    assert (dark["labels"], dark["label_set"]) == ([], [])
    assert dark["typicality"] == answer["results"][1]["typicality"]
    # Without coverage there is no set to be emptied, and a lower level lets more pass.
    (_, dark) = (await client.post("/v1/predict?strict=true", files=files)).json()["results"]
    assert "label_set" not in dark
    (_, dark) = (await client.post("/v1/predict?strict=true&level=0.005", files=files)).json()["results"]
    assert len(dark["labels"]) == 3


async def test_of_few_calibration_items_a_level_that_refuses_nothing_is_an_error(tmp_path):
    folder = make_familiar(write_model(tmp_path), 255)
    card = folder / "manifest.json"
    card.write_text(card.read_text().replace('"calibrated_on": 1000', '"calibrated_on": 43'))
    app = create_app(Settings(models=tmp_path, device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        refused = await client.post("/v1/predict?strict=true&level=0.02", content=grey(2), headers=PNG)
        assert refused.status_code == 422
        assert "calibrated on 43 items and are never below 0.023" in refused.json()["detail"]
        answer = await client.post("/v1/predict?strict=true", content=grey(12), headers=PNG)
        assert answer.json()["results"][0]["labels"] == []  # its p-value is 0.047, below 0.05


async def test_a_model_that_does_not_tell(client):
    plain = (await client.post("/v1/predict?model=old", content=grey(2), headers=PNG)).json()
    assert not {"typicality", "unfamiliar"} & plain["results"][0].keys()
    refused = await client.post("/v1/predict?model=old&strict=true", content=grey(2), headers=PNG)
    assert refused.status_code == 422
    assert "old has no p-values" in refused.json()["detail"]
    assert (await client.post("/v1/predict?strict=true&level=1", content=grey(2), headers=PNG)).status_code == 422


async def test_texts(client):
    # The tiny model's ids: the largest tells.
    answer = (await client.post("/v1/classify-text", json={"texts": ["cat", "xyz"]})).json()
    known, unknown = (result["typicality"] for result in answer["results"])
    assert 0 < unknown < known
    query = {"strict": "true", "level": (known + unknown) / 2, "explain": "true"}
    first, second = (await client.post("/v1/classify-text", json={"texts": ["cat", "xyz"]}, params=query)).json()[
        "results"
    ]
    assert first["labels"]
    assert second["labels"] == []
    assert [word["word"] for word in second["words"]] == ["xyz"]


@pytest.mark.parametrize(("model", "field", "nothing"), [("tabular", "labels", []), ("sum", "value", None)])
async def test_rows(client, model, field, nothing):
    rows = {"rows": [{"mean radius": 90, "area": 1}, {"mean radius": 0.5, "area": None}]}
    path = f"/v1/predict-tabular?model={model}"
    first, second = (await client.post(path, json=rows)).json()["results"]
    assert (first["typicality"], second["typicality"]) == (0.9, 0.005)
    assert second[field] != nothing
    strict = (await client.post(f"{path}&strict=true", json=rows)).json()["results"]
    assert strict == [first, {**second, field: nothing}]


async def test_encoding_and_reconstruction(client):
    for operation in ("encode", "reconstruct"):
        answer = await client.post(f"/v1/{operation}?invert=never", content=grey(51, 4), headers=PNG)
        assert answer.json()["results"][0]["typicality"] == 0.2


async def test_objects(client):
    red = np.zeros((64, 96, 3), np.uint8)
    red[20:40, 30:60] = (204, 0, 0)
    body = encode(red)
    (known,) = (await client.post("/v1/detect?confidence=0.1", content=body, headers=PNG)).json()["results"]
    assert 0 < known["typicality"] < 1
    assert known["boxes"]
    query = "strict=true&confidence=0.1&level"
    for level, counts in ((known["typicality"] * 0.9, known["counts"]), (0.999, {})):
        answer = (await client.post(f"/v1/detect?{query}={level}", content=body, headers=PNG)).json()
        assert answer["threshold"]["confidence"] == 0.1
        assert answer["results"] == [{**known, "counts": counts, "boxes": known["boxes"] if counts else []}]


async def test_the_documentation(client):
    document = (await client.get("/openapi.json")).json()
    pictures = ("EncodedImageAnswer", "RestoredImage", "ImageDetections")
    for schema in ("Prediction", "TextPrediction", "RowPrediction", *pictures):
        fields = document["components"]["schemas"][schema]["properties"]
        assert "p-value" in fields["typicality"]["description"]
        assert "deprecated" not in fields["typicality"]
        assert fields["unfamiliar"]["deprecated"] is True
    options = {option["name"]: option["schema"] for option in document["paths"]["/v1/predict"]["post"]["parameters"]}
    assert "default" not in options["level"]
    assert options["strict"] == {"type": "boolean", "default": False}


def test_the_output_and_its_card_need_each_other():
    outputs = manifest()["outputs"]
    for changes in ({"outputs": [*outputs, OUTPUT]}, {"familiarity": CARD}):
        with pytest.raises(ValidationError, match="need each other"):
            ClassifierManifest.model_validate({**manifest(**changes), "files": {}})
    both = {"outputs": [*outputs, OUTPUT], "familiarity": CARD}
    assert ClassifierManifest.model_validate({**manifest(**both), "files": {}}).answers == tuple(
        ClassifierManifest.model_validate({**manifest(), "files": {}}).outputs
    )
