"""The gRPC server, called as clients of the protocol call it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from service.access.start import ring_of
from service.api.grpc import server
from service.api.grpc.messages import pb
from service.app import create_app
from service.settings import Settings
from tests.keyed import write_keys
from tests.tiny import LABELS, SIZE, answer, solid, write_model

IMAGES = np.stack([solid(label) for label in LABELS])
METHODS = {
    "ServerLive": (pb.Empty, pb.Live),
    "ServerReady": (pb.Empty, pb.Ready),
    "ServerMetadata": (pb.Empty, pb.Server),
    "ModelReady": (pb.Which, pb.Ready),
    "ModelMetadata": (pb.Which, pb.Model),
    "ModelConfig": (pb.Which, pb.ConfigurationResponse),
    "ModelStatistics": (pb.Which, pb.Statistics),
    "ModelInfer": (pb.InferRequest, pb.InferResponse),
    "RepositoryIndex": (pb.IndexRequest, pb.Index),
    "RepositoryModelLoad": (pb.Change, pb.Empty),
    "RepositoryModelUnload": (pb.Change, pb.Empty),
}


class Client:
    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._metadata = metadata
        self._calls = {
            name: channel.unary_unary(
                f"/inference.GRPCInferenceService/{name}",
                request_serializer=sent.SerializeToString,
                response_deserializer=got.FromString,
            )
            for name, (sent, got) in METHODS.items()
        }

    async def call(self, method: str, /, **fields: Any) -> Any:
        return await self._calls[method](METHODS[method][0](**fields), timeout=30, metadata=self._metadata)

    async def refused(self, method: str, /, **fields: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.call(method, **fields)
        return error.value.code(), error.value.details() or ""


@pytest.fixture
async def address(settings: Settings, tmp_path: Path) -> AsyncIterator[str]:
    async with serving(settings.model_copy(update={"state": tmp_path})) as address:
        yield address


class serving:  # noqa: N801 - used as a function
    """Runs an application with gRPC on a free port."""

    def __init__(self, settings: Settings) -> None:
        app = self.app = create_app(settings.model_copy(update={"grpc_port": 0}), ring=ring_of(settings))
        self._lifespan = app.router.lifespan_context(app)

    async def __aenter__(self) -> str:
        await self._lifespan.__aenter__()
        return f"127.0.0.1:{self.app.state.grpc_port}"

    async def __aexit__(self, *error: Any) -> None:
        await self._lifespan.__aexit__(*error)


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield Client(channel)


def request(**more: Any) -> dict[str, Any]:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [3, SIZE, SIZE, 3]}
    return {"model_name": "classifier", "inputs": [tensor], "raw_input_contents": [IMAGES.tobytes()], **more}


def probabilities(response: Any) -> np.ndarray:
    index = [output.name for output in response.outputs].index("probabilities")
    return np.frombuffer(response.raw_output_contents[index], np.float32).reshape(response.outputs[index].shape)


async def test_every_call(client: Client):
    assert (await client.call("ServerLive")).live
    assert (await client.call("ServerReady")).ready
    assert (await client.call("ServerMetadata")).name == "quartet"
    assert (await client.call("ModelReady", name="classifier", version="1")).ready
    model = await client.call("ModelMetadata", name="classifier")
    assert (list(model.versions), model.inputs[0].datatype) == (["1"], "UINT8")
    assert list(model.inputs[0].shape) == [-1, SIZE, SIZE, 3]
    config = (await client.call("ModelConfig", name="classifier")).config
    assert list(config.input[0].dims) == [SIZE, SIZE, 3]
    assert [each.name for each in (await client.call("RepositoryIndex")).models] == ["classifier"]
    response = await client.call("ModelInfer", **request(id="mine"))
    assert (response.model_name, response.model_version, response.id) == ("classifier", "1", "mine")
    np.testing.assert_allclose(probabilities(response), answer(IMAGES), atol=1e-6)
    (counts,) = (await client.call("ModelStatistics")).model_stats
    assert counts.name == "classifier"


async def test_typed_contents(client: Client):
    fields = request()
    fields["inputs"][0]["contents"] = {"uint_contents": IMAGES.ravel().tolist()}
    del fields["raw_input_contents"]
    np.testing.assert_allclose(probabilities(await client.call("ModelInfer", **fields)), answer(IMAGES), atol=1e-6)
    fields["inputs"][0]["contents"] = {"uint_contents": [300] * IMAGES.size}
    assert "from 0 to 255" in (await client.refused("ModelInfer", **fields))[1]


async def test_a_model_is_unloaded_and_loaded(client: Client):
    await client.call("RepositoryModelUnload", model_name="classifier")
    assert not (await client.call("ModelReady", name="classifier")).ready
    await client.call("RepositoryModelLoad", model_name="classifier")
    assert (await client.call("ModelReady", name="classifier")).ready


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        (request(model_name="none"), "NOT_FOUND", "No model 'none'"),
        (request(raw_input_contents=[b"1"]), "INVALID_ARGUMENT", "has 1 bytes"),
        (request(raw_input_contents=[b"1", b"2"]), "INVALID_ARGUMENT", "2 tensors for 1 inputs"),
        (request(inputs=[], raw_input_contents=[]), "INVALID_ARGUMENT", "is missing"),
        (request(parameters={"sequence_id": {"int64_param": 4}}), "INVALID_ARGUMENT", "no sequences"),
        (request(outputs=[{"name": "none"}]), "INVALID_ARGUMENT", "has no output"),
        (request(outputs=[{"name": "none"}] * 257), "INVALID_ARGUMENT", "has 257 outputs; at most 256"),
        (
            request(parameters={str(index): {"bool_param": True} for index in range(257)}),
            "INVALID_ARGUMENT",
            "257 parameters",
        ),
        (
            request(inputs=[{"name": "images", "datatype": "UINT8", "shape": [1] * 5000}]),
            "INVALID_ARGUMENT",
            "must be a list of whole numbers",
        ),
    ],
)
async def test_refusals(client: Client, fields: dict[str, Any], code: str, said: str):
    found, details = await client.refused("ModelInfer", **fields)
    assert (found.name, said in details) == (code, True), details


async def test_a_message_over_the_limit_is_refused(client: Client):
    code, _ = await client.refused("ModelInfer", **request(raw_input_contents=[bytes(3_000_000)]))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_bytes_that_are_no_message(address: str):
    async with grpc.aio.insecure_channel(address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for content in (b"\x3a\x05abc", b"\x08\x00" * 5000):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await infer(content, timeout=30)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "cannot be read" in str(error.value.details())


async def test_messages_without_tensors_are_small(client: Client):
    assert "does not need" in (await client.refused("ModelReady", name="a" * 20_000))[1]


async def test_typed_contents_are_bounded(settings: Settings, tmp_path: Path):
    # 17 MB of integers, which take one byte each in the message and eight in memory.
    fields = request()
    del fields["raw_input_contents"]
    message = pb.InferRequest(**fields)
    message.inputs[0].contents.uint_contents.extend(bytes(17 << 20))
    async with (
        serving(settings.model_copy(update={"max_body_mb": 64, "state": tmp_path})) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message.SerializeToString())
        assert "send them in raw_input_contents" in str(error.value.details())
        del message.inputs[0].contents.uint_contents[3 << 20 :]
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message.SerializeToString())
        assert "over 2000000 values" in str(error.value.details())


async def test_a_message_is_not_read_without_a_key(settings: Settings, tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", infer={"scopes": ["infer"]})
    async with (
        serving(settings.model_copy(update={"keys": keys, "max_body_mb": 64})) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):

        async def endless() -> AsyncIterator[bytes]:
            await asyncio.sleep(60)
            yield b""

        call = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(endless())
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asyncio.wait_for(call, 10)
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_message_that_does_not_arrive(settings: Settings, tmp_path: Path):
    async with (
        serving(settings.model_copy(update={"timeout": 0.3, "state": tmp_path})) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):

        async def late() -> AsyncIterator[bytes]:
            await asyncio.sleep(60)
            yield b""

        call = channel.stream_unary("/inference.GRPCInferenceService/ServerLive")(late())
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asyncio.wait_for(call, 10)
        assert "did not arrive" in str(error.value.details())
        assert (await Client(channel).call("ServerLive")).live


async def test_a_slow_message_gives_way(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "_SLOW_SECONDS", 0.2)

    async def late() -> AsyncIterator[bytes]:
        await asyncio.sleep(60)
        yield b""

    async with grpc.aio.insecure_channel(address) as channel:
        slow = [channel.stream_unary("/inference.GRPCInferenceService/ServerLive")(late()) for _ in range(16)]
        await asyncio.sleep(0.5)
        assert not any(call.done() for call in slow)
        assert (await asyncio.wait_for(Client(channel).call("ServerLive"), 10)).live
        codes = [asyncio.ensure_future(call.code()) for call in slow]
        ended, _ = await asyncio.wait(codes, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert {code.result() for code in ended} == {grpc.StatusCode.DEADLINE_EXCEEDED}
        for call in slow:
            call.cancel()
        await asyncio.wait(codes)


async def test_large_messages_share_the_memory_for_bodies(settings: Settings, tmp_path: Path):
    async with (
        serving(settings.model_copy(update={"max_memory_mb": 1, "state": tmp_path})) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        refused = await Client(channel).refused("ModelInfer", **request(raw_input_contents=[bytes(1_500_000)]))
    assert refused[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "no room" in refused[1]


async def test_keys_open_what_their_scope_says(settings: Settings, tmp_path: Path):
    keys = write_keys(
        tmp_path / "keys.toml", infer={"scopes": ["infer"]}, other={"scopes": ["infer"], "models": ["another"]}
    )
    async with (
        serving(settings.model_copy(update={"keys": keys})) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        assert (await Client(channel).call("ServerLive")).live
        assert (await Client(channel).refused("ServerMetadata"))[0] is grpc.StatusCode.UNAUTHENTICATED
        wrong = Client(channel, (("authorization", "Bearer wrong"),))
        assert (await wrong.refused("ModelInfer", **request()))[0] is grpc.StatusCode.UNAUTHENTICATED
        for metadata in (("authorization", "Bearer infer"), ("x-api-key", "infer")):
            client = Client(channel, (metadata,))
            await client.call("ModelInfer", **request())
            refused = await client.refused("RepositoryModelUnload", model_name="classifier")
            assert refused[0] is grpc.StatusCode.PERMISSION_DENIED
        stranger = Client(channel, (("x-api-key", "other"),))
        for name, fields in (("ModelInfer", request()), ("ModelMetadata", {"name": "classifier"})):
            assert (await stranger.refused(name, **fields))[0] is grpc.StatusCode.NOT_FOUND
        assert not (await stranger.call("RepositoryIndex")).models
        assert not (await stranger.call("ModelStatistics")).model_stats


@pytest.mark.parametrize("end", ["deadline", "cancellation", "timeout"])
async def test_what_nobody_waits_for_leaves_the_queue(settings: Settings, tmp_path: Path, end: str):
    write_model(tmp_path / "models", slow=20, max_batch=1)
    running = serving(settings.model_copy(update={"models": tmp_path / "models"}))
    async with running as address, grpc.aio.insecure_channel(address) as channel:
        many = {"name": "images", "datatype": "UINT8", "shape": [500, SIZE, SIZE, 3]}
        parameters = {"timeout": {"int64_param": 500_000}} if end == "timeout" else {}
        message = pb.InferRequest(
            **request(inputs=[many], raw_input_contents=[bytes(500 * IMAGES[0].size)], parameters=parameters)
        )
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        call = infer(message.SerializeToString(), timeout=0.5 if end == "deadline" else 30)
        batcher = running.app.repository.models["classifier"].batcher
        async with asyncio.timeout(10):
            while not batcher.admission.held:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
            if end == "cancellation":
                call.cancel()
            else:
                assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            while batcher.admission.held or batcher.depth:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
