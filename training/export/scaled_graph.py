"""The scaling of a classifier's logits in an exported graph: the nodes `calibration_*` before its last softmax."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from training.export.calibration import Scaling
from training.export.layers import answer_with, producers_of

PREFIX = "calibration_"


@contextmanager
def logits_alone(path: Path) -> Iterator[Path]:
    """The graph at `path` with the network's logits, before any scaling, for its only output.

    Raises:
        ValueError: its first output is not that of a softmax.
    """
    model = onnx.load(path)
    answer_with(model, _remove_scaling(model).input[:1])
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / path.name
        onnx.save(model, target)
        yield target


def write_scaling(path: Path, scaling: Scaling) -> None:
    """Replaces the scaling of the graph at `path`.

    Raises:
        ValueError: its first output is not that of a softmax.
    """
    model = onnx.load(path)
    graph, softmax = model.graph, _remove_scaling(model)
    steps: list[tuple[str, float | None]] = [("Div", scaling.temperature)]
    if scaling.exponent != 1:
        steps = [("LogSoftmax", None), ("Abs", None), *steps, ("Pow", scaling.exponent), ("Neg", None)]
    for kind, constant in steps:
        name = f"{PREFIX}{kind.lower()}"
        inputs = [softmax.input[0]]
        if constant is not None:
            inputs.append(f"{name}_by")
            graph.initializer.append(numpy_helper.from_array(np.array(constant, np.float32), inputs[1]))
        node = helper.make_node(kind, inputs, [name], name=name)
        if kind == "LogSoftmax":
            node.attribute.append(helper.make_attribute("axis", 1))
        index = list(graph.node).index(softmax)
        graph.node.insert(index, node)
        softmax = graph.node[index + 1]
        softmax.input[0] = name
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _remove_scaling(model: onnx.ModelProto) -> onnx.NodeProto:
    # Returns the softmax of the probabilities, whose input is then the network's logits.
    graph, producers = model.graph, producers_of(model)
    output = graph.output[0].name
    softmax = producers[output]
    if softmax.op_type != "Softmax":
        raise ValueError(f"{output} is the output of a {softmax.op_type}, not of a softmax")
    while (before := producers.get(softmax.input[0])) is not None and before.name.startswith(PREFIX):
        softmax.input[0] = before.input[0]
    for field in (graph.node, graph.initializer, graph.value_info):
        kept = [item for item in field if not item.name.startswith(PREFIX)]
        del field[:]
        field.extend(kept)
    return next(node for node in graph.node if output in node.output)
