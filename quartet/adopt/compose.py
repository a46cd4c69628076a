"""Nodes before and after a graph of images: it then takes uint8 pixels and answers probabilities."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx.compose
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from quartet.adopt.batching import BATCH
from quartet.adopt.graph import Array, declare, nodes
from quartet.adopt.preprocessing import Preprocessing

INPUT, OUTPUT = "images", "probabilities"
Scores = Literal["logits", "probabilities"]

_PREFIX = "adopted_"
_ELEMENTS = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
# Before the logarithm: the least positive number that is not subnormal.
_TINY = np.finfo(np.float32).tiny


class Chain:
    """Nodes, each of which takes the output of the one before it.

    Args:
        start: the tensor that the first node takes.
        name: distinguishes the chain's tensors from those of another chain.
    """

    def __init__(self, start: str, name: str) -> None:
        self.end, self._prefix = start, f"{_PREFIX}{name}"
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: Array) -> str:
        """The name of a constant."""
        name = f"{self._prefix}_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, *constants: Array, **attributes: Any) -> str:
        """Appends a node whose further inputs are constants; returns the name of its output."""
        return self.join(kind, [self.end, *map(self.constant, constants)], **attributes)

    def join(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Appends a node with any inputs; returns the name of its output."""
        name = f"{self._prefix}_{len(self.nodes)}_{kind.lower()}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.end = name
        return name

    def call(self, name: str) -> None:
        """Renames the output of the last node."""
        self.nodes[-1].output[0] = self.end = name


def with_pixels(model: ModelProto, preprocessing: Preprocessing) -> ModelProto:
    """The graph with the input `images`, uint8 of shape (batch, height, width, channels), instead of its only one."""
    model = _without_our_names(model)
    graph, prepared = model.graph, preprocessing
    chain = Chain(INPUT, "pixels")
    if prepared.bgr:
        chain.add("Gather", np.array([2, 1, 0]), axis=3)
    if prepared.layout == "nchw":
        chain.add("Transpose", perm=[0, 3, 1, 2])
    elif prepared.layout == "nhw":
        chain.add("Reshape", np.array([0, prepared.height, prepared.width]))
    if prepared.dtype != "uint8":
        # Half precision has too few digits for the statistics.
        wide = "float64" if prepared.dtype == "float64" else "float32"
        chain.add("Cast", to=_ELEMENTS[wide])
        shape = {"nchw": (-1, 1, 1), "nhwc": (-1,), "nhw": (-1, 1)}[prepared.layout]
        for kind, values, neutral in (("Sub", prepared.mean, 0), ("Div", prepared.std, 1)):
            if any(value != neutral for value in values):
                chain.add(kind, np.array(values, wide).reshape(shape))
        if prepared.dtype == "float16":
            chain.add("Cast", to=_ELEMENTS["float16"])
    inner = graph.input[0].name
    if not chain.nodes:
        chain.add("Identity")
    chain.call(inner)
    before = list(graph.node)
    del graph.node[:], graph.input[:]
    # Shapes between the nodes may have been inferred for another batch.
    del graph.value_info[:]
    graph.node.extend([*chain.nodes, *before])
    graph.initializer.extend(chain.constants)
    graph.input.append(declare(INPUT, "uint8", [BATCH, *prepared.shape]))
    return model


def with_probabilities(model: ModelProto, output: str, answer: Array, scores: Scores, labels: int) -> ModelProto:
    """The graph with the only output `probabilities`, float32 of shape (batch, labels): a softmax, the last node.

    Args:
        model: with `images` for its input.
        output: the scores of the labels, or of the second of two.
        answer: its values for an image.
        scores: what they are.
        labels: their number.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    chain = Chain(output, "scores")
    if answer.dtype != np.float32:
        chain.add("Cast", to=TensorProto.FLOAT)
    if answer.ndim != 2:
        chain.add("Flatten", axis=1)
    if answer.size == 1 and labels == 2:
        second = chain.end
        first = chain.join(
            "Sub", [chain.constant(np.ones((1, 1), np.float32)) if scores == "probabilities" else second, second]
        )
        chain.join("Concat", [first, second], axis=1)
    if scores == "probabilities":
        # Their logarithms are logits, which calibration can scale.
        chain.add("Add", np.array(_TINY, np.float32))
        chain.add("Log")
    chain.add("Softmax", axis=1)
    chain.call(OUTPUT)
    copy.graph.node.extend(chain.nodes)
    copy.graph.initializer.extend(chain.constants)
    del copy.graph.output[:]
    copy.graph.output.append(declare(OUTPUT, "float32", [BATCH, labels]))
    return copy


def _without_our_names(model: ModelProto) -> ModelProto:
    """A copy in which no tensor has a name that is added here."""
    copy = ModelProto()
    copy.CopyFrom(model)
    names = {name for node in nodes(copy.graph) for name in (*node.input, *node.output)}
    names |= {value.name for value in (*copy.graph.input, *copy.graph.initializer)}
    if any(name in (INPUT, OUTPUT) or name.startswith(_PREFIX) for name in names):
        onnx.compose.add_prefix(copy, "model_", inplace=True)
    return copy
