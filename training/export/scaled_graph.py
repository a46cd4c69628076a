"""The scaling of a classifier's logits, inside its exported graph: see `training.export.scaling`.

Its nodes stand before the softmax that gives the probabilities, and their names begin with `calibration_`. Graphs of
earlier versions divide their logits by the temperature in a node that the exporter named.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from training.export.layers import answer_with, producers_of
from training.export.scaling import Scaling

PREFIX = "calibration_"


@contextmanager
def logits_alone(path: Path, temperature: float = 1.0) -> Iterator[Path]:
    """The graph at `path` with the network's logits, before any scaling, for its only output.

    Args:
        path: of the graph.
        temperature: that it divides its logits by in a node without a mark; 1 if it does not.

    Raises:
        ValueError: its first output comes of no softmax, or it does not divide its logits.
    """
    model = onnx.load(path)
    softmax = _unscaled(model, temperature)
    answer_with(model, softmax.input[:1])
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / path.name
        onnx.save(model, target)
        yield target


def write_scaling(path: Path, scaling: Scaling, temperature: float = 1.0) -> None:
    """Has a graph scale its logits in this way, in place of what it did before.

    Args:
        path: of the graph, which is changed.
        scaling: of its logits.
        temperature: see `logits_alone`.

    Raises:
        ValueError: as `logits_alone`.
    """
    model = onnx.load(path)
    graph, softmax = model.graph, _unscaled(model, temperature)
    steps: list[tuple[str, float | None]] = [("Div", scaling.temperature)]
    if scaling.exponent != 1:
        steps = [("LogSoftmax", None), ("Abs", None), *steps, ("Pow", scaling.exponent), ("Neg", None)]
    index = list(graph.node).index(softmax)
    for kind, constant in steps:
        inputs = [softmax.input[0]]
        name = f"{PREFIX}{kind.lower()}"
        if constant is not None:
            inputs.append(f"{name}_by")
            graph.initializer.append(numpy_helper.from_array(np.array(constant, np.float32), inputs[1]))
        attributes: dict[str, Any] = {"axis": 1} if kind == "LogSoftmax" else {}
        graph.node.insert(index, helper.make_node(kind, inputs, [name], name=name, **attributes))
        index += 1
        softmax = graph.node[index]
        softmax.input[0] = name
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _unscaled(model: onnx.ModelProto, temperature: float) -> onnx.NodeProto:
    """Takes a graph's scaling out of it; returns the softmax that gives its probabilities."""
    graph = model.graph
    producers = producers_of(model)
    softmax = producers[graph.output[0].name]
    if softmax.op_type != "Softmax":
        raise ValueError(f"{graph.output[0].name} comes of a {softmax.op_type}, not of a softmax")
    before = producers.get(softmax.input[0])
    if before is not None and before.name.startswith(PREFIX):
        while before is not None and before.name.startswith(PREFIX):
            softmax.input[0] = before.input[0]
            before = producers.get(before.input[0])
        for field in (graph.node, graph.initializer, graph.value_info):
            kept = [item for item in field if not item.name.startswith(PREFIX)]
            del field[:]
            field.extend(kept)
    elif temperature != 1:
        _remove_division(graph, softmax, before, temperature)
    return next(node for node in graph.node if graph.output[0].name in node.output)


def _remove_division(
    graph: onnx.GraphProto, softmax: onnx.NodeProto, division: onnx.NodeProto | None, temperature: float
) -> None:
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    divisor = constants.get(division.input[1]) if division is not None and division.op_type == "Div" else None
    if division is None or divisor is None or divisor.size != 1:
        raise ValueError(f"it does not divide its logits by the temperature {temperature:.3f} that its manifest states")
    if np.isclose(divisor, temperature, rtol=1e-4):
        softmax.input[0] = division.input[0]
        graph.node.remove(division)
    else:
        # It divides by something else too, such as the number of logits that it averages.
        name = "undivided"
        graph.initializer.append(numpy_helper.from_array((divisor / temperature).astype(divisor.dtype), name))
        division.input[1] = name
