"""tritonclient.http: every call, and what the example clients do."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

triton = pytest.importorskip("tritonclient.http", exc_type=ImportError)
from tritonclient.utils import InferenceServerException  # noqa: E402

from tests.clients.sums import MODELS, check, inputs, not_offered, numbers  # noqa: E402


@pytest.fixture
def client(rest: str) -> Any:
    with triton.InferenceServerClient(rest, concurrency=4) as client:
        yield client


def refused(call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(InferenceServerException) as error:
        call(*arguments, **options)
    return f"{error.value.status()} {error.value.message()}"


def test_health_and_metadata(client: Any):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "quartet"
    model = client.get_model_metadata("simple")
    assert model["inputs"][0] == {"name": "INPUT0", "datatype": "INT32", "shape": [-1, 16]}
    assert "No model 'none'" in refused(client.get_model_metadata, "none")
    config = client.get_model_config("simple", "1")
    assert (config["max_batch_size"], config["input"][0]["data_type"]) == (8, "TYPE_INT32")
    assert {each["name"]: each["state"] for each in client.get_model_repository_index()}["simple"] == "READY"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("batch", [1, 8])
def test_infer(client: Any, model: str, binary: bool, batch: int):
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
    result = client.infer(
        model, inputs(triton, model, batch, binary_data=binary), outputs=outputs, request_id="mine", model_version="1"
    )
    check(result, batch)
    assert result.get_response()["id"] == "mine"
    check(client.infer(model, inputs(triton, model, batch)), batch)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: Any, algorithm: str):
    result = client.infer(
        "simple",
        inputs(triton, "simple", 8),
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    check(result, 8)


def test_async_infer(client: Any):
    pending = [client.async_infer(model, inputs(triton, model, 2)) for model in MODELS for _ in range(8)]
    for each in pending:
        check(each.get_result(), 2)


def test_requests_made_by_hand(client: Any, rest: str):
    body, length = triton.InferenceServerClient.generate_request_body(inputs(triton, "simple"))
    response = httpx.post(
        f"http://{rest}/v2/models/simple/infer",
        content=body,
        headers={"Inference-Header-Content-Length": str(length)},
        timeout=30,
    )
    header = response.headers["inference-header-content-length"]
    check(triton.InferenceServerClient.parse_response_body(response.content, header_length=int(header)))


def test_the_data_alone(rest: str):
    image = np.zeros((32, 32, 3), np.uint8).tobytes()
    response = httpx.post(
        f"http://{rest}/v2/models/classifier/infer",
        content=image,
        headers={"Inference-Header-Content-Length": "0"},
        timeout=30,
    )
    header = int(response.headers["inference-header-content-length"])
    result = triton.InferenceServerClient.parse_response_body(response.content, header_length=header)
    assert result.as_numpy("probabilities").shape == (1, 10)


def test_classification(client: Any):
    images = triton.InferInput("images", [2, 32, 32, 3], "UINT8")
    images.set_data_from_numpy(np.zeros((2, 32, 32, 3), np.uint8))
    output = triton.InferRequestedOutput("probabilities", class_count=3)
    found = client.infer("classifier", [images], outputs=[output]).as_numpy("probabilities")
    assert found.shape == (2, 3)
    value, index, label = found[0, 0].decode().split(":")
    assert float(value) <= 1
    assert (int(index) < 10, label.isalpha()) == (True, True)


def test_parameters(client: Any):
    check(client.infer("simple", inputs(triton, "simple"), priority=2, timeout=10_000_000, parameters={"mine": 1}))


def test_statistics(client: Any):
    check(client.infer("simple", inputs(triton, "simple", 4)), 4)
    (entry,) = client.get_inference_statistics("simple", "1")["model_stats"]
    assert entry["inference_count"] >= 4
    names = {each["name"] for each in client.get_inference_statistics()["model_stats"]}
    assert names == {*MODELS, "classifier"}


def test_model_control(client: Any):
    client.unload_model("simple_int8")
    assert not client.is_model_ready("simple_int8")
    client.load_model("simple_int8")
    assert client.is_model_ready("simple_int8")
    assert "none" in refused(client.load_model, "none")
    assert "as they are in the models folder" in refused(client.load_model, "simple", config=json.dumps({"a": 1}))
    assert "as they are" in refused(client.load_model, "simple", files={"file:1/model.onnx": b"x"})
    client.unload_model("simple_int8", unload_dependents=True)
    client.load_model("simple_int8")


def test_what_is_not_offered_is_refused(client: Any):
    for call in not_offered(client):
        assert refused(call).startswith("501 The server has neither")


def test_shared_memory_and_sequences_are_refused(client: Any):
    tensors = inputs(triton, "simple")
    tensors[0].set_shared_memory("region", 64)
    assert "shared memory is not supported" in refused(client.infer, "simple", tensors)
    options = {"sequence_id": 1, "sequence_start": True}
    assert "no sequences" in refused(client.infer, "simple", inputs(triton, "simple"), **options)


def test_errors(client: Any):
    first, second = inputs(triton, "simple")
    assert "INPUT1" in refused(client.infer, "simple", [first])
    assert "at most" in refused(client.infer, "simple", inputs(triton, "simple", 20_000))
    assert "400" in refused(client.infer, "simple", [first, second], outputs=[triton.InferRequestedOutput("none")])
    assert "404" in refused(client.infer, "simple", [first, second], model_version="7")


async def test_asyncio(rest: str):
    import tritonclient.http.aio as aio

    async with aio.InferenceServerClient(rest) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple")
        assert (await client.get_server_metadata())["name"] == "quartet"
        assert (await client.get_model_metadata("simple"))["name"] == "simple"
        assert (await client.get_model_config("simple"))["max_batch_size"] == 8
        assert len(await client.get_model_repository_index()) == 4
        assert (await client.get_inference_statistics("simple"))["model_stats"]
        await client.unload_model("simple_string")
        await client.load_model("simple_string")
        for call in not_offered(client):
            with pytest.raises(InferenceServerException, match="The server has neither"):
                await call()
        for model in MODELS:
            for algorithm in (None, "gzip", "deflate"):
                result = await client.infer(
                    model,
                    inputs(triton, model, 3),
                    request_compression_algorithm=algorithm,
                    response_compression_algorithm=algorithm,
                )
                check(result, 3)


def test_the_values_are_those_of_the_example():
    one, two = numbers()
    assert (one[0, 15], two[0, 0]) == (15, 1)
