"""Graphs without a task over the Open Inference Protocol: strings, open axes, scalars, no batch axis."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper

from service.app import create_app
from service.settings import Settings
from tests.tiny_tensors import write_means, write_scaled, write_sums, write_tensors, write_words


@pytest.fixture
async def tensors(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with plain tensors."""
    for write in (write_sums, write_words, write_means, write_scaled):
        write(tmp_path)
    app = create_app(Settings(models=tmp_path, device="cpu"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield client


async def infer(client: httpx.AsyncClient, model: str, *inputs: tuple[str, str, list[int], list[Any]]) -> Any:
    body = {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": shape, "data": data} for name, datatype, shape, data in inputs
        ]
    }
    return (await client.post(f"/v2/models/{model}/infer", json=body)).json()


def values(answer: Any) -> list[Any]:
    return [output["data"] for output in answer["outputs"]]


async def test_several_inputs(tensors: httpx.AsyncClient):
    rows = [("INPUT0", "INT32", [2, 16], [3] * 32), ("INPUT1", "INT32", [2, 16], [1] * 32)]
    assert values(await infer(tensors, "simple", *rows)) == [[4] * 32, [2] * 32]


async def test_strings(tensors: httpx.AsyncClient):
    assert values(await infer(tensors, "words", ("words", "BYTES", [1, 2], ["12", "7"]))) == [["12", "7"]]
    body = {
        "inputs": [{"name": "words", "datatype": "BYTES", "shape": [1, 2], "data": ["1", "2"]}],
        "outputs": [{"name": "again", "parameters": {"classification": 2}}],
    }
    refused = await tensors.post("/v2/models/words/infer", json=body)
    assert (refused.status_code, "cannot order" in refused.json()["error"]) == (400, True)


async def test_open_axes_are_not_padded(tensors: httpx.AsyncClient):
    two = ("images", "FP32", [2, 3, 1, 2], [1, 2, 3, 4, 5, 6] * 2)
    assert values(await infer(tensors, "means", two)) == [[1.5, 3.5, 5.5] * 2]
    answer = await infer(tensors, "means", ("images", "FP32", [1, 3, 17, 1], [0] * 51))
    assert "may be from 1 to 16" in answer["error"]


async def test_without_a_batch_axis_the_tensors_are_one_item(tensors: httpx.AsyncClient):
    signal, factor = ("signal", "FP32", [3, 2], [0, 0.5] * 3), ("factor", "FP32", [], [4])
    answer = await infer(tensors, "scaled", signal, factor)
    assert answer["outputs"] == [{"name": "scaled", "datatype": "FP32", "shape": [3, 2], "data": [0, 2] * 3}]
    config = (await tensors.get("/v2/models/scaled/config")).json()
    assert config["max_batch_size"] == 0
    assert [each["dims"] for each in config["input"]] == [[-1, 2], []]
    assert "dynamic_batching" not in config


async def test_answers_that_take_too_long_to_write_are_refused_before_they_are_made(tmp_path: Path):
    many = 1_500_000
    write_tensors(
        tmp_path,
        "many",
        [helper.make_node("Constant", [], ["times"], value=onnx.numpy_helper.from_array(np.array([1, many]))),
         helper.make_node("Tile", ["x", "times"], ["y"])],
        {"x": ("int8", ["batch", 1])},
        {"y": ("int8", ["batch", many])},
        {"x": np.ones((1, 1), np.int8), "y": np.ones((1, many), np.int8)},
    )  # fmt: skip
    app = create_app(Settings(models=tmp_path, device="cpu"))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        for parameters, said in (({}, "ask for binary data"), ({"classification": many}, "at most 200000 values")):
            body = {
                "inputs": [{"name": "x", "datatype": "INT8", "shape": [2, 1], "data": [1, 2]}],
                "outputs": [{"name": "y", "parameters": parameters}],
            }
            response = await client.post("/v2/models/many/infer", json=body)
            assert (response.status_code, said in response.json()["error"]) == (400, True)
        app.observers.flush()
        (counts,) = (await client.get("/v2/models/many/stats")).json()["model_stats"]
        assert counts["execution_count"] == 0
        body["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
        response = await client.post("/v2/models/many/infer", json=body)
        assert response.content.endswith(b"\x02" * many)


async def test_values_out_of_range_are_refused(tensors: httpx.AsyncClient):
    factor = ("factor", "FP32", [], [4])
    answer = await infer(tensors, "scaled", ("signal", "FP32", [1, 2], [0, 1.5]), factor)
    assert answer["error"] == "input 'signal': the value at [0, 1] must be from 0 to 1."


async def test_values_that_the_graph_cannot_run_are_the_clients_fault(tensors: httpx.AsyncClient):
    for _ in range(12):  # more than make a model suspect
        body = {"inputs": [{"name": "words", "datatype": "BYTES", "shape": [1, 2], "data": ["1", "no number"]}]}
        refused = await tensors.post("/v2/models/words/infer", json=body)
        assert (refused.status_code, "failed on this input" in refused.json()["error"]) == (400, True)
    assert (await tensors.get("/v2/models/words/ready")).status_code == 200
    assert values(await infer(tensors, "words", ("words", "BYTES", [1, 2], ["12", "7"]))) == [["12", "7"]]


async def test_they_are_listed_without_data_and_without_an_operation(tensors: httpx.AsyncClient):
    listed = (await tensors.get("/v1/models")).json()["models"]
    assert [(each["name"], each["task"], each["data"]) for each in listed] == [
        (name, "tensors", None) for name in ("means", "scaled", "simple", "words")
    ]
    detail = (await tensors.get("/v1/models/scaled")).json()
    assert detail["manifest"]["adopted"]["samples"] == "random"
    assert (await tensors.get("/v1/models/scaled/1/samples")).json()["media_types"] == []
