"""Values that clients send must not end the server's process, or decide how much memory a call takes."""

from collections.abc import Iterator, Mapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from quartet.adopt.graph import CannotAdopt, bodies, inputs_of
from quartet.adopt.samples import Ranges

# Values are bounded by the dtype.
_SMALL = ("bool", "uint8", "int8")
# The inputs of operators that decide how large an output is, or how often a body runs.
_SIZES = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1,),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "Loop": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Tile": (1,),
    "Upsample": (1,),
}
# Their outputs depend on the sizes of the inputs alone, which the server checks.
_OF_SIZES = ("Shape", "Size")
_SIGNED = (TensorProto.INT32, TensorProto.INT64)
# The first opset with Where.
_WHERE = 9

# By tensor, the graph's inputs whose values it depends on.
_Origins = dict[str, frozenset[str]]


def refuse_unbounded_sizes(model: ModelProto, ranges: Ranges) -> None:
    """Raises CannotAdopt if values of an input without a range decide the size of tensors, or the length of a loop."""
    small = {value.name for value in inputs_of(model) if value.dtype in _SMALL}
    for node, origins in _walk(model.graph, _own_origins(model.graph)):
        for index in _SIZES.get(node.op_type, ()):
            name = node.input[index] if index < len(node.input) else ""
            for origin in sorted(origins.get(name, frozenset()) - ranges.keys() - small):
                raise CannotAdopt(
                    "sizes by values",
                    f"The values of the input {origin!r} decide how much memory or time a call takes ({node.op_type}): "
                    f"state which ones clients may send with --range {origin}=LOW:HIGH.",
                )


def guard_divisions(model: ModelProto) -> list[str]:
    """Changes integer divisions whose overflow would end the process; returns a line that says so, if there are any.

    The least integer divided by -1 overflows, and the processor raises a signal. Where the divisor may be -1, the
    dividend is negated instead; the remainder is 0.
    """
    types = _element_types(model)
    constants = _constants(model.graph)
    guarded = 0
    for graph, node, origins in _walk_graphs(model.graph, _own_origins(model.graph)):
        if node.op_type not in ("Div", "Mod") or node.domain not in ("", "ai.onnx"):
            continue
        dividend, divisor = node.input
        element = types.get(divisor, types.get(dividend, TensorProto.UNDEFINED))
        known = constants.get(divisor)
        if element not in _SIGNED or not (origins.get(dividend) or origins.get(divisor)):
            continue
        if not origins.get(divisor) and (known is None or not (numpy_helper.to_array(known) == -1).any()):
            continue
        if _opset(model) < _WHERE:
            raise CannotAdopt(
                "opset",
                f"An integer overflow in the operator {node.op_type} would end the server's process, and opset "
                f"{_opset(model)} has no way to prevent that: export a newer opset.",
            )
        _guard(graph, node, element, f"guard_{guarded}")
        guarded += 1
    return [f"{guarded} integer divisions by -1 negate instead, since an overflow would end the process"][:guarded]


def _guard(graph: GraphProto, node: NodeProto, element: int, name: str) -> None:
    """Replaces a division a / b by where(b = -1, -a, a) / where(b = -1, 1, b); of a remainder, only the divisor."""
    dividend, divisor = node.input
    new = [
        helper.make_node("Constant", [], [f"{name}_{word}"], value=helper.make_tensor(name, element, [], [value]))
        for word, value in (("minus", -1), ("one", 1))
    ]
    new.append(helper.make_node("Equal", [divisor, f"{name}_minus"], [f"{name}_is"]))
    new.append(helper.make_node("Where", [f"{name}_is", f"{name}_one", divisor], [f"{name}_divisor"]))
    if node.op_type == "Div":
        new.append(helper.make_node("Neg", [dividend], [f"{name}_negated"]))
        new.append(helper.make_node("Where", [f"{name}_is", f"{name}_negated", dividend], [f"{name}_dividend"]))
        node.input[0] = f"{name}_dividend"
    node.input[1] = f"{name}_divisor"
    at = next(index for index, each in enumerate(graph.node) if each.output == node.output)
    for each in reversed(new):
        graph.node.insert(at, each)


def _own_origins(graph: GraphProto) -> _Origins:
    return {value.name: frozenset((value.name,)) for value in graph.input}


def _walk(graph: GraphProto, origins: _Origins) -> Iterator[tuple[NodeProto, _Origins]]:
    for _, node, known in _walk_graphs(graph, origins):
        yield node, known


def _walk_graphs(graph: GraphProto, origins: _Origins) -> Iterator[tuple[GraphProto, NodeProto, _Origins]]:
    """Every node with the graph that it is in, and where the tensors known so far come from."""
    for node in list(graph.node):
        yield graph, node, origins
        found = frozenset[str]().union(*(origins.get(name, frozenset()) for name in node.input))
        for body in bodies(node):
            inner = origins | {value.name: found for value in body.input}
            yield from _walk_graphs(body, inner)
            found = found.union(*(inner.get(value.name, frozenset()) for value in body.output))
        for name in node.output:
            origins[name] = frozenset() if node.op_type in _OF_SIZES else found


def _element_types(model: ModelProto) -> dict[str, int]:
    """The element types of tensors, as far as ONNX can infer them."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # many kinds; what is not inferred is left out
        graph = model.graph
    return dict(_declared_types(graph))


def _declared_types(graph: GraphProto) -> Iterator[tuple[str, int]]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield value.name, value.type.tensor_type.elem_type
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type
    for node in graph.node:
        for body in bodies(node):
            yield from _declared_types(body)


def _constants(graph: GraphProto) -> Mapping[str, TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], each.t) for each in node.attribute if each.name == "value")
        for body in bodies(node):
            found |= _constants(body)
    return found


def _opset(model: ModelProto) -> int:
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1)
