"""The temperature of a classifier, inside its exported graph."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from training.calibrate import Floats, Ints, fit_temperature, logits_of

_TEMPERATURE = "temperature"


def calibrate(path: Path, answers: Callable[[Path], Floats], labels: Ints) -> float:
    """Fits the temperature of a graph anew, to what it answers, and writes it into the graph.

    Args:
        path: of the graph.
        answers: a graph's probabilities for the validation split, shape (n, classes).
        labels: shape (n,).

    Returns:
        What its logits are divided by, in addition to what they were.
    """
    factor = fit_temperature(logits_of(answers(path)), labels)
    scale_temperature(path, factor)
    return factor


def scale_temperature(path: Path, factor: float) -> None:
    """Has a graph divide its logits by `factor`, in addition to what it does.

    Raises:
        ValueError: its first output comes of no softmax.
    """
    model = onnx.load(path)
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    softmax = producers[graph.output[0].name]
    if softmax.op_type != "Softmax":
        raise ValueError(f"{path.name}: {graph.output[0].name} comes of a {softmax.op_type}, not of a softmax")
    division = producers.get(softmax.input[0])
    if division is None or division.op_type != "Div" or constants.get(division.input[1], np.empty(0)).size != 1:
        # The exporter drops a division by 1.
        division = helper.make_node("Div", [softmax.input[0], ""], ["divided_logits"], name="divide_logits")
        softmax.input[0] = division.output[0]
        index = list(graph.node).index(softmax)
        graph.node.insert(index, division)
        division = graph.node[index]
        old = np.ones((), np.float32)
    else:
        old = constants[division.input[1]]
    for tensor in [tensor for tensor in graph.initializer if tensor.name == _TEMPERATURE]:
        graph.initializer.remove(tensor)
    # Under a name of its own: a constant of this value may serve other nodes too.
    graph.initializer.append(numpy_helper.from_array((old * factor).astype(old.dtype), _TEMPERATURE))
    division.input[1] = _TEMPERATURE
    onnx.save(model, path)
