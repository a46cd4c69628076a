"""KServe's inference client, over REST and gRPC."""

from typing import Any

import httpx
import numpy as np
import pytest

kserve = pytest.importorskip("kserve", exc_type=ImportError)
from tests.clients.sums import DATATYPES, MODELS, arrays, numbers  # noqa: E402


def request(model: str, *, binary: bool) -> Any:
    tensors = []
    for name, array in zip(("INPUT0", "INPUT1"), arrays(model, 2), strict=True):
        tensor = kserve.InferInput(name, list(array.shape), DATATYPES[model])
        tensor.set_data_from_numpy(array, binary_data=binary)
        tensors.append(tensor)
    return kserve.InferRequest(model, tensors, request_id="mine")


def check(response: Any) -> None:
    one, two = numbers(2)
    assert response.id == "mine"
    for name, expected in (("OUTPUT0", one + two), ("OUTPUT1", one - two)):
        found = response.get_output_by_name(name)
        values = found.as_numpy()
        np.testing.assert_array_equal(np.array(values.ravel().tolist(), int).reshape(values.shape), expected)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("binary", [True, False])
async def test_rest(rest: str, model: str, binary: bool):
    client, url = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2")), f"http://{rest}"
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, model)
    check(await client.infer(url, request(model, binary=binary), model_name=model))
    await client.close()


async def test_errors_over_rest(rest: str):
    client = kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
    with pytest.raises(httpx.HTTPStatusError, match="No model 'none'"):
        await client.infer(f"http://{rest}", request("simple", binary=True), model_name="none")
    await client.close()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("binary", [True, False])
async def test_grpc(rpc: str, model: str, binary: bool):
    async with kserve.InferenceGRPCClient(rpc) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(model)
        check(await client.infer(request(model, binary=binary)))
