"""Frees the first axis inside a graph that was exported for a fixed batch."""

from collections.abc import Sequence

from onnx import ModelProto, TensorProto, helper, shape_inference

from quartet.adopt.graph import nodes

_PREFIX = "adopted_target_"


def free_reshapes(model: ModelProto) -> ModelProto:
    """A copy in which no Reshape fixes the first axis.

    Exports for a fixed batch write it into the targets of Reshape: `[1, 144, -1]`, or four times the batch in
    `[4, 25, 2, 96]`. Here the other axes keep the sizes that they have for the declared inputs, and the first one
    takes what is left. Whether items stay apart, only answers can tell. Nodes inside of conditions and loops stay as
    they are.
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


def open_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """A copy in which ONNX Runtime cannot work out the size of the first axis of some outputs.

    It would state that size, where a graph fixes it inside, in spite of an open axis of the declaration. Here the first
    axis is cut to the number of rows of the first input, which changes nothing.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    zero, one, rows = (f"{_PREFIX}{word}" for word in ("zero", "one", "rows"))
    graph.initializer.extend(
        helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in ((zero, 0), (one, 1))
    )
    renamed = {name: f"{_PREFIX}{index}_whole" for index, name in enumerate(names)}
    for node in nodes(graph):
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = renamed.get(name, name)
    graph.node.append(helper.make_node("Shape", [graph.input[0].name], [f"{rows}_shape"]))
    graph.node.append(helper.make_node("Slice", [f"{rows}_shape", zero, one, zero], [rows]))
    graph.node.extend(helper.make_node("Slice", [whole, zero, rows, zero], [name]) for name, whole in renamed.items())
    return copy


def _shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors by name, where they can be inferred; 0 for an open axis."""
    graph = shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
