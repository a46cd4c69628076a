"""Finds layers in an exported graph by its structure, whatever its tensors are called, and cuts the graph there."""

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from service.inference.shapes import Array

# Nodes that multiply by weights.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Inputs of a graph, by the name of the tensor.
Inputs = Mapping[str, Array]
# Finds the tensors that are concatenated to features.
Find = Callable[[onnx.ModelProto], tuple[str, ...]]


def penultimate(model: onnx.ModelProto) -> tuple[str, ...]:
    """The tensors that the last layers before the first output multiply by their weights, or ValueError."""
    producers, layers = producers_of(model), {node.output[0]: node.input[0] for node in _layers(model)}
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [model.graph.output[0].name]
    while waiting:
        name = waiting.pop()
        if name in layers:
            found[layers[name]] = None
        elif name in producers and name not in seen:
            waiting.extend(reversed(producers[name].input))
        seen.add(name)
    if not found:
        raise ValueError(f"no layer leads to {model.graph.output[0].name}")
    return tuple(found)


def middle_map(model: onnx.ModelProto) -> tuple[str, ...]:
    """A map, of rank 4, from before the middle, after a residual connection if any; without maps the last features."""
    rank = {name: len(shape) for name, shape in shapes(model).items()}
    constants = _weights(model)
    sums = [
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Add" and rank.get(node.output[0]) == 4 and not constants & {*node.input}
    ]
    maps = sums or [node.input[0] for node in _layers(model) if rank.get(node.input[0]) == 4]
    if not maps:
        return penultimate(model)
    # Here features tell most about the kind of picture: beyond colours and edges, before classes.
    name = maps[int(0.4 * len(maps))]
    # After its quantisation, if any: reading it before would keep the runtime from fusing its nodes.
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        following = [node for node in model.graph.node if name in node.input]
        if len(following) != 1 or following[0].op_type != kind:
            break
        name = following[0].output[0]
    return (name,)


def first_inputs(model: onnx.ModelProto) -> tuple[str, ...]:
    """The tensor that the first layer multiplies by its weights: the prepared inputs of the graph."""
    return (_layers(model)[0].input[0],)


def after_the_layers(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that no layer depends on, from the last one backwards."""
    layers = {node.output[0] for node in _layers(model)}
    needed: set[str] = set()
    after = []
    for node in reversed(model.graph.node):
        if (needed | layers) & {*node.output}:
            needed |= {*node.input}
        else:
            after.append(node.name)
    return after


def shapes(model: onnx.ModelProto) -> dict[str, tuple[int | str, ...]]:
    """The shapes of the graph's tensors, by name, as far as they can be told; an open axis has a name."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {
        value.name: tuple(axis.dim_value or axis.dim_param for axis in value.type.tensor_type.shape.dim)
        for value in values
    }


def answer_with(model: onnx.ModelProto, tensors: Sequence[str]) -> None:
    """Replaces the graph's outputs by these float32 tensors, whose first axis is the batch."""
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors)


def producers_of(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that each tensor comes from, by the tensor's name; inputs and constants come from none."""
    return {output: node for node in model.graph.node for output in node.output}


def _weights(model: onnx.ModelProto) -> set[str]:
    names = {tensor.name for tensor in model.graph.initializer}
    scaled = (node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in names)
    return names | {node.output[0] for node in scaled}


def _layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    weights = _weights(model)
    return [node for node in model.graph.node if node.op_type in LAYERS and weights & {*node.input[1:2]}]
