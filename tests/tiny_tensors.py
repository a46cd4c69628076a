"""Tiny graphs without a task: plain tensors."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from service.inference.cards import AdoptionCard, GoldenCard, TensorSpec
from service.inference.manifest import sha256
from service.tasks.tensors.manifest import TensorsManifest

Array = npt.NDArray[Any]
_TYPES = {
    "float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int8": TensorProto.INT8, "str": TensorProto.STRING,
}  # fmt: skip


def write_tensors(
    models: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[str, list[int | str]]],
    outputs: dict[str, tuple[str, list[int | str]]],
    golden: dict[str, Array],
    **changes: Any,
) -> Path:
    """Writes version 1 of a model whose graph has these nodes, and returns its folder.

    Args:
        models: the models folder.
        name: of the model.
        nodes: of the graph.
        inputs: dtype and shape of each.
        outputs: likewise.
        golden: inputs and answers.
        **changes: replace fields of the manifest.
    """
    folder = models / name / "1"
    folder.mkdir(parents=True)

    def values(described: dict[str, tuple[str, list[int | str]]]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(tensor, _TYPES[dtype], shape) for tensor, (dtype, shape) in described.items()
        ]

    def specs(described: dict[str, tuple[str, list[int | str]]]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=tensor, dtype=dtype, shape=tuple(size if isinstance(size, int) else -1 for size in shape))
            for tensor, (dtype, shape) in described.items()
        )

    graph = helper.make_graph(nodes, name, values(inputs), values(outputs))
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    np.savez(folder / "golden.npz", **golden)
    fields: dict[str, Any] = {
        "name": name,
        "description": "plain tensors",
        "inputs": specs(inputs),
        "outputs": specs(outputs),
        "max_batch": 8,
        "max_length": 16,
        "golden": GoldenCard(rows=len(next(iter(golden.values()))), atol=1e-5),
        "files": {each.name: sha256(each) for each in folder.iterdir()},
        "adopted": AdoptionCard(
            source="model.onnx", sha256="0" * 64, size=1, opsets={"": 17}, command="quartet adopt model.onnx",
            samples="random", batching="rows agree",
        ),
    }  # fmt: skip
    (folder / "manifest.json").write_text(TensorsManifest(**fields | changes).model_dump_json())
    return folder


def write_sums(models: Path, name: str = "simple") -> Path:
    """The sum and the difference of two INT32 inputs of 16 values."""
    two = np.arange(64, dtype=np.int32).reshape(4, 16), np.arange(64, 0, -1, dtype=np.int32).reshape(4, 16)
    return write_tensors(
        models,
        name,
        [helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
         helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"])],
        {tensor: ("int32", ["batch", 16]) for tensor in ("INPUT0", "INPUT1")},
        {tensor: ("int32", ["batch", 16]) for tensor in ("OUTPUT0", "OUTPUT1")},
        {"INPUT0": two[0], "INPUT1": two[1], "OUTPUT0": two[0] + two[1], "OUTPUT1": two[0] - two[1]},
    )  # fmt: skip


def write_words(models: Path, name: str = "words") -> Path:
    """Numbers as strings; the answer is the number again."""
    numbers = np.arange(6, dtype=np.int32).reshape(3, 2)
    return write_tensors(
        models,
        name,
        [helper.make_node("Cast", ["words"], ["numbers"], to=TensorProto.INT32),
         helper.make_node("Cast", ["numbers"], ["again"], to=TensorProto.STRING)],
        {"words": ("str", ["batch", 2])},
        {"again": ("str", ["batch", 2])},
        {"words": numbers.astype(str), "again": numbers.astype(str)},
    )  # fmt: skip


def write_means(models: Path, name: str = "means") -> Path:
    """The mean of each channel of an image of any size, whose zeros count."""
    images = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    return write_tensors(
        models,
        name,
        [helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0)],
        {"images": ("float32", ["batch", 3, "height", "width"])},
        {"means": ("float32", ["batch", 3])},
        {"images": images, "means": images.mean((2, 3))},
    )


def write_scaled(models: Path, name: str = "scaled") -> Path:
    """A signal of any length times a scalar: no axis is a batch."""
    signal, factor = np.random.default_rng(0).random((3, 5, 2), np.float32), np.float32([0, 1, 2])
    return write_tensors(
        models,
        name,
        [helper.make_node("Mul", ["signal", "factor"], ["scaled"])],
        {"signal": ("float32", ["time", 2]), "factor": ("float32", [])},
        {"scaled": ("float32", ["time", 2])},
        {"signal": signal, "factor": factor, "scaled": signal * factor[:, None, None]},
        batched=False,
        max_batch=1,
        ranges={"signal": (0.0, 1.0)},
    )
