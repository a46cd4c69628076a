"""Small graphs to adopt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quartet.adopt.graph import declare

Tensors = Mapping[str, tuple[str, Sequence[int | str] | None]]


def make(
    nodes: Sequence[onnx.NodeProto],
    inputs: Tensors,
    outputs: Tensors,
    *,
    weights: Mapping[str, Any] | None = None,
    opset: int = 17,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of these nodes, with dtypes as NumPy names them."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [declare(name, *value) for name, value in inputs.items()],
        [declare(name, *value) for name, value in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*each) for each in (domains or {}).items())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="test", producer_version="1")


def save(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """The path of the model's file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def linear(first: int | str = "batch") -> onnx.ModelProto:
    """x [first, 4] to y [first, 2], a product and a softmax."""
    return make(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=-1)],
        {"x": ("float32", [first, 4])},
        {"y": ("float32", [first, 2])},
        weights={"w": np.arange(8, dtype=np.float32).reshape(4, 2) / 8},
    )


def zipped() -> onnx.ModelProto:
    """A classifier as scikit-learn's converter writes it: labels, and a sequence of maps."""
    model = make(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["p"], axis=-1),
            helper.make_node("ArgMax", ["p"], ["label"], axis=-1, keepdims=0),
            helper.make_node(
                "ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"]
            ),
        ],
        {"x": ("float32", ["batch", 4])},
        {"label": ("int64", ["batch"])},
        weights={"w": np.arange(8, dtype=np.float32).reshape(4, 2) / 8},
        domains={"ai.onnx.ml": 3},
    )
    kind = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    sequence = helper.make_sequence_type_proto(kind)
    model.graph.output.append(helper.make_value_info("probabilities", sequence))
    return model
