"""The routes of the Open Inference Protocol, with the tiny classifier."""

import gzip
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.settings import Settings
from tests.tiny import LABELS, SIZE, answer, solid

IMAGES = np.stack([solid(label) for label in LABELS])
ROW = {"name": "images", "shape": [3, SIZE, SIZE, 3], "datatype": "UINT8"}
INFER = "/v2/models/classifier/infer"


def binary(document: dict[str, Any], *blobs: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(document).encode()
    return b"".join([head, *blobs]), {"Inference-Header-Content-Length": str(len(head))}


def request(**more: Any) -> dict[str, Any]:
    return {"inputs": [{**ROW, "data": IMAGES.ravel().tolist()}], **more}


def read(response: httpx.Response) -> dict[str, np.ndarray]:
    """The outputs of a binary response."""
    assert response.status_code == 200, response.text
    start = int(response.headers["inference-header-content-length"])
    document, found = json.loads(response.content[:start]), {}
    for output in document["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        dtype = {"FP32": np.float32, "INT64": np.int64}[output["datatype"]]
        found[output["name"]] = np.frombuffer(response.content[start:end], dtype).reshape(output["shape"])
        start = end
    assert start == len(response.content)
    return found


async def test_health_needs_no_key_and_has_a_document(client: httpx.AsyncClient):
    assert (await client.get("/v2/health/live")).json() == {"live": True}
    assert (await client.get("/v2/health/ready")).json() == {"ready": True}


async def test_metadata(client: httpx.AsyncClient):
    server = (await client.get("/v2")).json()
    assert server["name"] == "quartet"
    assert "binary_tensor_data" in server["extensions"]
    for path in ("/v2/models/classifier", "/v2/models/classifier/versions/1"):
        model = (await client.get(path)).json()
        assert (model["name"], model["versions"], model["platform"]) == ("classifier", ["1"], "onnxruntime_onnx")
        assert model["inputs"] == [{**ROW, "shape": [-1, SIZE, SIZE, 3]}]
        assert model["outputs"][0] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}
    configured = (await client.get("/v2/models/classifier/config")).json()
    assert configured["input"] == [{"name": "images", "data_type": "TYPE_UINT8", "dims": [SIZE, SIZE, 3]}]
    assert configured["max_batch_size"] > 1
    assert "dynamic_batching" in configured
    assert (await client.get("/v2/models/classifier/versions/1/ready")).json() == {"name": "classifier", "ready": True}
    index = (await client.post("/v2/repository/index")).json()
    assert index == [{"name": "classifier", "version": "1", "state": "READY", "reason": ""}]


async def test_json_in_json_out(client: httpx.AsyncClient):
    response = await client.post(INFER, json=request(id="mine"))
    document = response.json()
    assert (document["model_name"], document["model_version"], document["id"]) == ("classifier", "1", "mine")
    output = document["outputs"][0]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [3, 3])
    np.testing.assert_allclose(np.reshape(output["data"], (3, 3)), answer(IMAGES), atol=1e-6)


async def test_binary_in_binary_out(client: httpx.AsyncClient):
    document = {"inputs": [{**ROW, "parameters": {"binary_data_size": IMAGES.nbytes}}],
                "parameters": {"binary_data_output": True}}  # fmt: skip
    body, headers = binary(document, IMAGES.tobytes())
    found = read(await client.post("/v2/models/classifier/versions/1/infer", content=body, headers=headers))
    np.testing.assert_allclose(found["probabilities"], answer(IMAGES), atol=1e-6)
    for encoding, compressed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        response = await client.post(INFER, content=compressed, headers={**headers, "Content-Encoding": encoding})
        np.testing.assert_array_equal(read(response)["probabilities"], found["probabilities"])


async def test_the_whole_body_is_the_only_input(client: httpx.AsyncClient):
    headers = {"Inference-Header-Content-Length": "0"}
    found = read(await client.post(INFER, content=IMAGES[1].tobytes(), headers=headers))
    np.testing.assert_allclose(found["probabilities"], answer(IMAGES[1:2]), atol=1e-6)
    response = await client.post(INFER, content=b"123", headers=headers)
    assert response.status_code == 400
    assert "has 3 bytes" in response.json()["error"]


async def test_classes_by_name(client: httpx.AsyncClient):
    asked = {"name": "probabilities", "parameters": {"classification": 2}}
    output = (await client.post(INFER, json=request(outputs=[asked]))).json()["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [3, 2])
    assert [each.split(":")[2] for each in output["data"][::2]] == list(LABELS)


async def test_statistics_count_calls_items_and_batches(client: httpx.AsyncClient):
    await client.post(INFER, json=request())
    await client.post(INFER, json={"inputs": []})
    client._transport.app.observers.flush()  # type: ignore[attr-defined]
    for path in ("/v2/models/stats", "/v2/models/classifier/stats", "/v2/models/classifier/versions/1/stats"):
        (found,) = (await client.get(path)).json()["model_stats"]
        assert (found["name"], found["version"], found["inference_count"]) == ("classifier", "1", 3)
        assert found["inference_stats"]["success"]["count"] == found["inference_stats"]["fail"]["count"] == 1
        assert found["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
        assert sum(each["batch_size"] * each["compute_infer"]["count"] for each in found["batch_stats"]) == 3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"inputs": []}, "the input 'images' is missing"),
    ({}, "inputs: Field required"),
    ({"inputs": [{**ROW, "name": "other", "data": [1]}]}, "has no input 'other'"),
    ({"inputs": [{**ROW, "name": f"x{index}", "data": [1]} for index in range(1000)]}, "at most 256"),
    ({"inputs": 2 * [{**ROW, "data": [1]}]}, "given twice"),
    ({"inputs": [{**ROW, "datatype": "FP32", "data": [1]}]}, "the model takes UINT8"),
    ({"inputs": [{**ROW, "shape": [0, SIZE, SIZE, 3], "data": []}]}, "at least one item"),
    ({"inputs": [{**ROW, "shape": [2**62, 2**62, 2**62, 2**62], "data": [1]}]}, "at most"),
    ({"inputs": [{**ROW, "shape": [-1, SIZE, SIZE, 3], "data": [1]}]}, "at least one item"),
    ({"inputs": [ROW]}, "either `data` or the parameter"),
    ({"inputs": [{**ROW, "data": [1], "parameters": {"binary_data_size": 1}}]}, "either `data` or the parameter"),
    ({"inputs": [{**ROW, "parameters": {"binary_data_size": 5}}]}, "Inference-Header-Content-Length is missing"),
    ({"inputs": [{**ROW, "parameters": {"shared_memory_region": "a"}}]}, "shared memory"),
    (request(outputs=[{"name": "nothing"}]), "has no output 'nothing'"),
    (request(outputs=2 * [{"name": "probabilities"}]), "asked for twice"),
    (request(outputs=[{"name": "probabilities", "parameters": {"classification": -1}}]), "whole number"),
    (request(parameters={"sequence_id": 5}), "no sequences"),
    (request(parameters={"timeout": "soon"}), "whole number"),
    (request(parameters={"priority": -1}), "whole number"),
]


@pytest.mark.parametrize(("document", "said"), BAD)
async def test_bad_requests_name_what_is_wrong(client: httpx.AsyncClient, document: dict[str, Any], said: str):
    response = await client.post(INFER, json=document)
    assert response.status_code == 400, response.text
    assert said in response.json()["error"]
    version = client._transport.app.repository.models["classifier"]  # type: ignore[attr-defined]
    assert version.batcher.trouble(30) is None
    client._transport.app.observers.flush()  # type: ignore[attr-defined]
    (found,) = (await client.get("/v2/models/classifier/stats")).json()["model_stats"]
    assert found["execution_count"] == 0  # nothing has reached the model


@pytest.mark.parametrize(
    ("length", "size", "said"),
    [
        ("10000", None, "but the body has"),
        ("x", None, "must be a number of bytes"),
        ("-1", None, "must be a number of bytes"),
        (None, IMAGES.nbytes - 1, "UINT8 of the shape"),
        (None, IMAGES.nbytes + 1, "bytes are left"),
        (None, -1, "number of bytes"),
        (None, 2**70, "bytes are left"),
        (None, "5", "number of bytes"),
    ],
)
async def test_binary_sizes_that_disagree(client: httpx.AsyncClient, length: str | None, size: Any, said: str):
    document = {"inputs": [{**ROW, "parameters": {"binary_data_size": IMAGES.nbytes if size is None else size}}]}
    body, headers = binary(document, IMAGES.tobytes())
    headers |= {"Inference-Header-Content-Length": length} if length else {}
    response = await client.post(INFER, content=body, headers=headers)
    assert response.status_code == 400
    assert said in response.json()["error"]


async def test_bytes_that_no_input_takes(client: httpx.AsyncClient):
    document = {"inputs": [{**ROW, "parameters": {"binary_data_size": IMAGES.nbytes}}]}
    body, headers = binary(document, IMAGES.tobytes(), b"more")
    response = await client.post(INFER, content=body, headers=headers)
    assert "4 bytes of the body belong to no input" in response.json()["error"]


async def test_compressed_bodies_are_bounded(client: httpx.AsyncClient):
    bomb = gzip.compress(bytes(50_000_000))
    for content, encoding, status in (
        (bomb, "gzip", 413), (bomb[:100], "gzip", 400), (b"no", "deflate", 400), (b"{}", "br", 400)
    ):  # fmt: skip
        response = await client.post(INFER, content=content, headers={"Content-Encoding": encoding})
        assert response.status_code == status
        assert set(response.json()) == {"error"}


async def test_decompressed_bodies_share_the_memory_for_bodies(client: httpx.AsyncClient):
    budget = client._transport.app.budget  # type: ignore[attr-defined]
    content = gzip.compress(json.dumps(request()).encode() + b" " * 300_000)
    headers = {"Content-Encoding": "gzip"}
    assert (await client.post(INFER, content=content, headers=headers)).status_code == 200
    assert budget.used == 0
    budget.used = budget._total - 300_000
    refused = await client.post(INFER, content=content, headers=headers)
    assert (refused.status_code, "no room" in refused.json()["error"]) == (429, True)
    assert budget.used == budget._total - 300_000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/none", 404),
        ("GET", "/v2/models/classifier/versions/9", 404),
        ("POST", "/v2/models/none/infer", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", INFER, 405),
        ("GET", "/v2/systemsharedmemory/status", 501),
        ("GET", "/v2/trace/setting", 501),
        ("POST", "/v2/logging", 501),
        ("POST", "/v2/repository/models/none/load", 404),
    ],
)
async def test_failures_have_the_format_of_the_protocol(client: httpx.AsyncClient, method: str, path: str, status: int):
    response = await client.request(method, path)
    assert response.status_code == status
    assert list(response.json()) == ["error"]


async def test_a_model_is_unloaded_and_loaded(settings: Settings, tmp_path: Any):
    app = create_app(settings.model_copy(update={"state": tmp_path}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        refused = await client.post("/v2/repository/models/classifier/load", json={"parameters": {"config": "{}"}})
        assert refused.status_code == 400
        assert (await client.post("/v2/repository/models/classifier/unload")).status_code == 200
        assert (await client.get("/v2/models/classifier/ready")).status_code == 404
        assert (await client.post("/v1/predict", content=b"")).status_code == 404
        assert (await client.get("/v2/health/ready")).json() == {"ready": True}
        assert "serve = false" in (tmp_path / "classifier" / "serving.toml").read_text()
        assert (await client.post("/v2/repository/models/classifier/load")).status_code == 200
        assert (await client.get("/v2/models/classifier/ready")).json()["ready"]
