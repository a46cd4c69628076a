"""A sample of ONNX's own test models; `python -m benchmarks.adopt_nodes` tries all of them."""

import json
import struct
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.adopt_nodes import Case, adopt, as_fed, cases, outcomes, try_case
from quartet.adopt.graph import CannotAdopt
from service.api.v2.tensors import DATATYPES, datatype, to_bytes
from tests.server import Server

EVERY = 20
ADOPTED = {"adopted", "adopted in batches", "ONNX Runtime is inexact"}
REASONS = {
    "dtype", "invalid graph", "no input", "operator", "opset", "optional type", "random answers", "samples",
    "sequence type",
}  # fmt: skip
SERVED = 36


@pytest.fixture(scope="module")
def sample() -> list[Case]:
    return cases()[::EVERY]


def test_each_is_adopted_and_answers_as_expected_or_is_refused_with_a_reason(sample: list[Case], tmp_path: Path):
    found = list(outcomes(sample, tmp_path))
    assert [outcome for outcome in found if outcome.result not in ADOPTED | REASONS] == []
    adopted = [outcome for outcome in found if outcome.result in ADOPTED]
    assert len(adopted) > len(found) * 2 / 3
    assert 10 < sum(outcome.result == "adopted in batches" for outcome in adopted) < len(adopted)


def test_wrong_answers_are_noticed(sample: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    case = next(case for case in sample if case.name == "test_abs")
    assert try_case(case, tmp_path).result == "adopted in batches"
    monkeypatch.setattr("benchmarks.adopt_nodes.in_runtime", lambda *_: [case.expected[0] + 1])
    assert try_case(case, tmp_path).failed


def binary_request(case: Case) -> tuple[bytes, dict[str, str]]:
    """A request with binary tensors, and its headers."""
    described, blobs = [], []
    weights = {tensor.name for tensor in case.model.graph.initializer}
    values = [value for value in case.model.graph.input if value.name not in weights]
    for value, given in zip(values, case.inputs, strict=True):
        array = as_fed(given)
        kind = "BYTES" if array.dtype.kind in "OU" else datatype(array.dtype.name)
        blobs.append(to_bytes(array))
        parameters = {"binary_data_size": len(blobs[-1])}
        described.append({"name": value.name, "shape": array.shape, "datatype": kind, "parameters": parameters})
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    return b"".join([head, *blobs]), {"Inference-Header-Content-Length": str(len(head))}


def read_answer(response: httpx.Response) -> list[np.ndarray]:
    """The outputs of a binary answer."""
    start = int(response.headers["Inference-Header-Content-Length"])
    arrays = []
    for output in json.loads(response.content[:start])["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        data, start = response.content[start:end], end
        if output["datatype"] == "BYTES":
            texts = []
            while data:
                (length,) = struct.unpack_from("<I", data)
                texts.append(data[4 : 4 + length].decode())
                data = data[4 + length :]
            arrays.append(np.array(texts, object).reshape(output["shape"]))
        else:
            arrays.append(np.frombuffer(data, DATATYPES[output["datatype"]]).reshape(output["shape"]))
    return arrays


def test_a_server_answers_as_expected(sample: list[Case], tmp_path: Path):
    served: list[Case] = []
    for case in sample:
        try:
            adopt(case.model, case.inputs, tmp_path, case.name)
        except CannotAdopt:
            continue
        served.append(case)
        if len(served) == SERVED:
            break
    server = Server(models=tmp_path)
    try:
        with server.client() as client:
            for case in served:
                body, headers = binary_request(case)
                response = client.post(f"/v2/models/{case.name}/infer", content=body, headers=headers)
                assert response.status_code == 200, (case.name, response.text)
                for want, got in zip(case.expected, read_answer(response), strict=True):
                    array = as_fed(want)
                    assert got.shape == array.shape, case.name
                    if array.dtype.kind == "f":
                        assert np.allclose(got, array, rtol=1e-3, atol=1e-3, equal_nan=True), case.name
                    else:
                        assert np.array_equal(got, array), case.name
    finally:
        server.stop()
