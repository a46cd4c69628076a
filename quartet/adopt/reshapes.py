"""Frees the first axis inside a graph that was exported for a fixed batch."""

from collections.abc import Iterator
from graphlib import TopologicalSorter

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, shape_inference

from quartet.adopt.graph import bodies, nodes

_PREFIX = "adopted_target_"


def free_reshapes(model: ModelProto) -> ModelProto:
    """A copy in which no Reshape fixes the first axis.

    Exports for a fixed batch write it into the targets of Reshape: `[1, 144, -1]`, or four times the batch in
    `[4, 25, 2, 96]`. Here the other axes keep the sizes that they have for the declared inputs, and the first takes
    what is left. Whether items stay apart, only answers can tell. Nodes inside of bodies stay as they are.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    shapes = _shapes(model)
    constants = {tensor.name for tensor in copy.graph.initializer}
    constants |= {node.output[0] for node in copy.graph.node if node.op_type == "Constant"}
    for index, node in enumerate(copy.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        rest = shapes.get(node.output[0], (0,))[1:]
        # An axis of size 0 would be read as a copy of the input's.
        if not all(rest):
            continue
        # Several nodes may share a target.
        name = f"{_PREFIX}{index}"
        copy.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1 + len(rest)], [-1, *rest]))
        node.input[1] = name
    # Shapes between the nodes were inferred with the fixed size.
    del copy.graph.value_info[:]
    return copy


def _shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors by name, where they can be inferred; 0 for an open axis."""
    copy = ModelProto()
    copy.CopyFrom(model)
    # Converters append nodes anywhere, which ONNX Runtime accepts and the inference of shapes does not.
    ordered = list(_in_order(copy.graph))
    del copy.graph.node[:]
    copy.graph.node.extend(ordered)
    graph = shape_inference.infer_shapes(copy).graph
    return {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _in_order(graph: GraphProto) -> Iterator[NodeProto]:
    """Copies of the nodes, each after those whose outputs it takes."""
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    needed = {
        index: {producers[name] for name in _taken(node) if name in producers} for index, node in enumerate(graph.node)
    }
    for index in TopologicalSorter(needed).static_order():
        node = NodeProto()
        node.CopyFrom(graph.node[index])
        yield node


def _taken(node: NodeProto) -> Iterator[str]:
    """The names that a node takes, also inside of its bodies."""
    yield from node.input
    for body in bodies(node):
        for inner in nodes(body):
            yield from inner.input
