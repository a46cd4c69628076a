"""tritonclient.grpc: every call, and what the example clients do."""

import queue
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

triton = pytest.importorskip("tritonclient.grpc", exc_type=ImportError)
from tritonclient.utils import InferenceServerException  # noqa: E402

from tests.clients.sums import DATATYPES, MODELS, arrays, check, inputs, not_offered  # noqa: E402


@pytest.fixture
def client(rpc: str) -> Any:
    with triton.InferenceServerClient(rpc) as client:
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
    assert client.get_server_metadata(as_json=True)["name"] == "quartet"
    assert client.get_model_metadata("simple").inputs[0].datatype == "INT32"
    assert client.get_model_metadata("simple", as_json=True)["versions"] == ["1"]
    assert "NOT_FOUND" in refused(client.get_model_metadata, "none")
    config = client.get_model_config("simple").config
    assert (config.max_batch_size, config.backend, config.input[0].data_type) == (8, "onnxruntime", 8)
    assert client.get_model_config("simple", as_json=True)["config"]["name"] == "simple"
    assert "simple" in [each.name for each in client.get_model_repository_index().models]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batch", [1, 8])
def test_infer(client: Any, model: str, batch: int):
    outputs = [triton.InferRequestedOutput(name) for name in ("OUTPUT0", "OUTPUT1")]
    result = client.infer(model, inputs(triton, model, batch), outputs=outputs, request_id="mine", model_version="1")
    check(result, batch)
    assert result.get_response().id == "mine"
    check(client.infer(model, inputs(triton, model, batch), compression_algorithm="gzip"), batch)


@pytest.mark.parametrize("model", MODELS)
def test_async_infer(client: Any, model: str):
    answers: queue.Queue[Any] = queue.Queue()
    for _ in range(16):
        client.async_infer(model, inputs(triton, model, 2), lambda result, error: answers.put((result, error)))
    for _ in range(16):
        result, error = answers.get(timeout=30)
        assert error is None
        check(result, 2)


@pytest.mark.parametrize("model", MODELS)
def test_explicit_contents(rpc: str, model: str):
    """As the examples `grpc_explicit_int_content_client.py` and its siblings."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name=model, id="my request id")
    field = {"INT32": "int_contents", "INT8": "int_contents", "BYTES": "bytes_contents"}[DATATYPES[model]]
    for name, array in zip(("INPUT0", "INPUT1"), arrays(model), strict=True):
        tensor = request.inputs.add(name=name, datatype=DATATYPES[model], shape=array.shape)
        getattr(tensor.contents, field).extend(array.ravel().tolist())
    with grpc.insecure_channel(rpc) as channel:
        response = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    check(triton.InferResult(response))


def test_classification(client: Any):
    images = triton.InferInput("images", [1, 32, 32, 3], "UINT8")
    images.set_data_from_numpy(np.zeros((1, 32, 32, 3), np.uint8))
    output = triton.InferRequestedOutput("probabilities", class_count=2)
    found = client.infer("classifier", [images], outputs=[output]).as_numpy("probabilities")
    assert found.shape == (1, 2)
    assert len(found[0, 0].decode().split(":")) == 3


def test_parameters(client: Any):
    tensors = inputs(triton, "simple")
    check(client.infer("simple", tensors, priority=2, timeout=10_000_000, client_timeout=30, parameters={"mine": "a"}))


def test_statistics(client: Any):
    check(client.infer("simple", inputs(triton, "simple", 4)), 4)
    (entry,) = client.get_inference_statistics("simple").model_stats
    assert entry.inference_count >= 4
    assert len(client.get_inference_statistics().model_stats) == 4


def test_model_control(client: Any):
    client.unload_model("simple_int8")
    assert not client.is_model_ready("simple_int8")
    client.load_model("simple_int8")
    assert client.is_model_ready("simple_int8")
    assert "as they are in the models folder" in refused(client.load_model, "simple", config="{}")


def test_what_is_not_offered_is_refused(client: Any):
    for call in not_offered(client):
        assert "UNIMPLEMENTED The server has neither" in refused(call)


def test_streams_are_refused(client: Any):
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    with suppress(InferenceServerException):  # the refusal may come first
        client.async_stream_infer("simple", inputs(triton, "simple"), sequence_id=1, sequence_start=True)
    result, error = answers.get(timeout=30)
    client.stop_stream(cancel_requests=True)
    assert result is None
    assert "neither streams" in error.message()


def test_shared_memory_and_sequences_are_refused(client: Any):
    tensors = inputs(triton, "simple")
    tensors[0].set_shared_memory("region", 64)
    assert "INVALID_ARGUMENT" in refused(client.infer, "simple", tensors)
    options = {"sequence_id": 1, "sequence_start": True}
    assert "no sequences" in refused(client.infer, "simple", inputs(triton, "simple"), **options)


def test_errors(client: Any):
    first, second = inputs(triton, "simple")
    assert "INPUT1" in refused(client.infer, "simple", [first])
    assert "at most" in refused(client.infer, "simple", inputs(triton, "simple", 20_000))
    assert "NOT_FOUND" in refused(client.infer, "simple", [first, second], model_version="7")


async def test_asyncio(rpc: str):
    import grpc
    import tritonclient.grpc.aio as aio

    async with aio.InferenceServerClient(rpc) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple")
        assert (await client.get_server_metadata()).name == "quartet"
        assert (await client.get_model_metadata("simple")).name == "simple"
        assert (await client.get_model_config("simple")).config.max_batch_size == 8
        assert len((await client.get_model_repository_index()).models) == 4
        assert (await client.get_inference_statistics("simple")).model_stats
        await client.unload_model("simple_string")
        await client.load_model("simple_string")
        for call in not_offered(client):
            with pytest.raises(InferenceServerException, match="The server has neither"):
                await call()
        for model in MODELS:
            check(await client.infer(model, inputs(triton, model, 3)), 3)

        async def requests() -> Any:
            yield {"model_name": "simple", "inputs": inputs(triton, "simple")}

        with pytest.raises(grpc.aio.AioRpcError, match="neither streams"):
            async for _ in client.stream_infer(requests()):
                pass
