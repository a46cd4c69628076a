"""The range of inputs that are looked up in a table of the graph, such as token ids in an embedding."""

import onnx
from onnx import GraphProto, ModelProto, helper

from quartet.adopt.graph import inputs_of

# Operators whose output holds values of their first input and no others.
_SAME_VALUES = {"Cast", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}


def lookups(model: ModelProto) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each input of integers that is an index of a table.

    Another value makes ONNX Runtime fail. Indices from the end (negative ones) are left out.
    """
    sizes = _sizes(model)
    origins = {value.name: value.name for value in inputs_of(model) if value.dtype in ("int32", "int64")}
    ranges: dict[str, tuple[float, float]] = {}
    for node in model.graph.node:
        if node.op_type in _SAME_VALUES and node.input[0] in origins:
            origins.update(dict.fromkeys(node.output, origins[node.input[0]]))
        if node.op_type != "Gather" or node.input[1] not in origins:
            continue
        axis = next((helper.get_attribute_value(each) for each in node.attribute if each.name == "axis"), 0)
        shape = sizes.get(node.input[0], ())
        if -len(shape) <= axis < len(shape) and shape[axis]:
            origin = origins[node.input[1]]
            _, greatest = ranges.get(origin, (0, float("inf")))
            ranges[origin] = (0, min(greatest, shape[axis] - 1))
    return ranges


def _sizes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors, 0 for sizes that are not known."""
    try:
        graph: GraphProto = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # many kinds; what is not inferred is left out
        graph = model.graph
    found = {
        value.name: tuple(each.dim_value for each in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input)
    }
    return found | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
