"""The real server with the committed classifier: every way to send an image, alone and two hundred concurrently."""

import asyncio
import base64
import json
import re

import httpx
import numpy as np
import pytest

import quartet
from service.inference.session import Session
from service.tasks.classification.task import PredictAnswer
from service.tasks.images import EncodedImage
from service.tasks.registry import read_manifest
from service.tasks.samples import CAT
from tests.pictures import encode, photograph
from tests.server import ROOT, Server

CAT_JPEG = base64.b64decode(CAT)
JPEG = {"content-type": "image/jpeg"}
FOLDER = ROOT / "models" / "classifier" / "1"


@pytest.fixture
def client(server: Server):
    with server.client() as client:
        yield client


def probabilities(result: dict) -> np.ndarray:
    """The probability of each label, in the model's order."""
    return np.array([label["probability"] for label in sorted(result["labels"], key=lambda label: label["index"])])


def pictures(count: int) -> list[np.ndarray]:
    """`count` different images of 32 x 32."""
    rng = np.random.default_rng(1)
    cat = EncodedImage.open(CAT_JPEG).decode(3)
    noise = rng.integers(-60, 60, (count, 32, 32, 3))
    return list(
        (cat.astype(np.int64) + noise * np.linspace(0, 1, count)[:, None, None, None]).clip(0, 255).astype("u1")
    )


def test_a_cat_is_a_cat(client: httpx.Client):
    answer = client.post("/v1/predict", content=CAT_JPEG, headers=JPEG)
    assert answer.status_code == 200
    document = answer.json()
    PredictAnswer.model_validate(document)
    assert (document["model"], document["version"], document["device"]) == ("classifier", "1", "cpu")
    (result,) = document["results"]
    assert result["name"] is None
    assert "label_set" not in result
    assert len(result["labels"]) == 5
    values = [label["probability"] for label in result["labels"]]
    assert values == sorted(values, reverse=True)
    assert result["labels"][0]["label"] == "cat"
    assert result["labels"][0]["index"] == 3


def test_the_answer_is_that_of_the_graph(client: httpx.Client):
    pixels = photograph(32, 32)
    document = client.post("/v1/predict?top_k=10", content=encode(pixels), headers={"content-type": "image/png"}).json()
    expected, unfamiliar = Session(FOLDER / "model.onnx", "cpu", 1).run({"images": pixels[None]})
    np.testing.assert_allclose(probabilities(document["results"][0]), expected[0], atol=1e-5)
    assert probabilities(document["results"][0]).sum() == pytest.approx(1, abs=1e-4)
    assert document["results"][0]["typicality"] == pytest.approx(unfamiliar[0], abs=0.002)


@pytest.mark.parametrize(
    ("model", "operation"), [("classifier", "predict"), ("topics", "classify-text"), ("tabular", "predict-tabular")]
)
def test_samples_have_their_own_labels(everything: Server, model: str, operation: str):
    with everything.client() as client:
        described = client.get(f"/v1/models/{model}/1/samples").json()
        right = 0
        for index, (media_type, label) in enumerate(zip(described["media_types"], described["labels"], strict=True)):
            sample = client.get(f"/v1/models/{model}/1/samples/{index}").content
            answer = client.post(f"/v1/{operation}", content=sample, headers={"content-type": media_type}).json()
            right += answer["results"][0]["labels"][0]["label"] == label
    assert right >= 0.8 * len(described["labels"])


def test_noise_is_none_of_these_and_a_photograph_is(client: httpx.Client):
    noise = encode(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    files = [("files", ("cat.jpg", CAT_JPEG)), ("files", ("noise.png", noise))]
    cat, nothing = client.post("/v1/predict?strict=true&coverage=0.9", files=files).json()["results"]
    assert cat["labels"][0]["label"] == "cat"
    assert cat["typicality"] > 0.01 > nothing["typicality"]
    assert (nothing["labels"], nothing["label_set"]) == ([], [])


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/x-www-form-urlencoded", "image/png"])
def test_the_format_is_recognised_by_the_contents(client: httpx.Client, content_type: str):
    expected = client.post("/v1/predict", content=CAT_JPEG, headers=JPEG).json()
    answer = client.post("/v1/predict", content=CAT_JPEG, headers={"content-type": content_type})
    assert answer.status_code == 200
    assert answer.json() == expected


def test_a_form_of_several_files_keeps_their_order_and_names(client: httpx.Client):
    images = pictures(40)
    names = [f"{index}-ä.png" for index in range(40)]
    files = [("files", (name, encode(image), "image/png")) for name, image in zip(names, images, strict=True)]
    document = client.post("/v1/predict?top_k=10", files=files).json()
    PredictAnswer.model_validate(document)
    assert [result["name"] for result in document["results"]] == names
    for image, result in zip(images, document["results"], strict=True):
        alone = client.post("/v1/predict?top_k=10", content=encode(image), headers={"content-type": "image/png"}).json()
        np.testing.assert_allclose(probabilities(result), probabilities(alone["results"][0]), atol=1e-5)


def test_json_of_base64_and_data_urls(client: httpx.Client):
    png = base64.b64encode(encode(photograph(32, 32))).decode()
    images = [CAT, f"data:image/png;base64,{png}", f"data:image/jpeg;base64,{CAT}"]
    document = client.post("/v1/predict", json={"images": images}).json()
    first, second, third = document["results"]
    assert first == third
    assert first != second
    assert first["labels"][0]["label"] == "cat"


def test_coverage_adds_the_label_set(client: httpx.Client):
    manifest = read_manifest(FOLDER)
    sets = {}
    for coverage in (0.8, 0.95, 0.99):
        answer = client.post(f"/v1/predict?coverage={coverage}&top_k=10", content=CAT_JPEG, headers=JPEG)
        (result,) = answer.json()["results"]
        threshold = min(
            (point for point in manifest.conformal if point.coverage >= coverage), key=lambda point: point.coverage
        ).threshold
        expected = [
            label["label"]
            for rank, label in enumerate(result["labels"])
            if rank == 0 or label["probability"] >= threshold
        ]
        assert result["label_set"] == expected
        sets[coverage] = set(expected)
    assert sets[0.8] <= sets[0.95] <= sets[0.99]


def test_server_timing_and_request_id(client: httpx.Client, server: Server):
    answer = client.post("/v1/predict", content=CAT_JPEG, headers={**JPEG, "x-request-id": "my-own-7"})
    parts = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert set(parts) == {"decode", "queue", "inference"}
    assert float(parts["decode"]) > 0
    assert float(parts["inference"]) > 0
    assert answer.headers["x-request-id"] == "my-own-7"


async def test_two_hundred_at_a_time_each_get_their_own_answer(server: Server):
    images = pictures(200)
    async with quartet.AsyncClient(server.url, concurrency=200) as client:
        together = await client.predict(images, top_k=10)
        alone = await asyncio.gather(*(client.predict(image, top_k=10) for image in images))
    assert len({answer.served_by.request_id for answer in alone}) == 200
    for answer, expected in zip(alone, together, strict=True):
        assert {label.label: label.probability for label in answer.labels} == pytest.approx(
            {label.label: label.probability for label in expected.labels}, abs=1e-5
        )


def test_the_examples_of_openapi_run(client: httpx.Client):
    document = client.get("/openapi.json").json()
    content = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert {"application/json", "multipart/form-data", "application/octet-stream", "image/*"} <= set(content)
    answer = client.post("/v1/predict", json=content["application/json"]["example"])
    assert answer.json()["results"][0]["labels"][0]["label"] == "cat"


def test_models_health_and_metrics(client: httpx.Client):
    listed = client.get("/v1/models").json()
    assert [model["name"] for model in listed["models"]] == ["classifier"]
    assert listed["refused"] == {}
    detail = client.get("/v1/models/classifier").json()
    assert detail["manifest"] == json.loads((FOLDER / "manifest.json").read_text())
    assert client.get("/healthz/live").json() == {"status": "live"}
    assert client.get("/healthz/ready").json() == {"status": "ready"}
    client.post("/v1/predict", content=CAT_JPEG, headers=JPEG)
    metrics = client.get("/metrics").text
    for name in (
        'quartet_requests_total{method="POST",route="/v1/predict",status="200"}',
        'quartet_request_seconds_count{route="/v1/predict"}',
        'quartet_batch_size_count{alias="",model="classifier",variant="reference",version="1"}',
        'quartet_queue_seconds_count{alias="",model="classifier",variant="reference",version="1"}',
        'quartet_inference_seconds_count{alias="",model="classifier",variant="reference",version="1"}',
        'quartet_decode_seconds_count{alias="",model="classifier",variant="reference",version="1"}',
    ):
        (value,) = re.findall(re.escape(name) + r" (\S+)", metrics)
        assert float(value) >= 1
    assert 'quartet_model_info{alias="",device="cpu",model="classifier",variant="reference",version="1"} 1.0' in metrics


def test_every_request_has_its_line_in_the_log(server: Server, client: httpx.Client):
    client.post("/v1/predict", content=CAT_JPEG, headers={**JPEG, "x-request-id": "look-for-me"})
    # Lines are written together; those of later requests come after it.
    for _ in range(200):
        client.get("/healthz/live")
        if found := [line for line in server.lines if " id=look-for-me " in line]:
            break
    (line,) = found
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info request id=look-for-me POST /v1/predict status=200 "
        r"ms=\d+\.\d\d model=classifier/1 variant=reference items=1 queue_ms=\d+\.\d+ inference_ms=\d+\.\d+\n",
        line,
    )
