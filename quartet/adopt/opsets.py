"""The version of ONNX's operators that a graph uses, and a later one for nodes that are added to it."""

from collections.abc import Mapping

import onnx.version_converter
from onnx import ModelProto

from quartet.adopt.batching import differ_by
from quartet.adopt.graph import Array, open_session


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators."""
    return max(int(each.version) for each in model.opset_import if each.domain in ("", "ai.onnx"))


def upgrade(model: ModelProto, opset: int, inputs: Mapping[str, Array]) -> tuple[ModelProto, list[str]]:
    """The graph in an opset of at least this version, with a line that says so.

    It stays as it is where it cannot be converted, or then gives other answers.

    Args:
        model: the graph.
        opset: the least version.
        inputs: for which the answers are compared.
    """
    if (found := opset_of(model)) >= opset:
        return model, []
    try:
        converted = onnx.version_converter.convert_version(model, opset)
        answers = [open_session(each, "model.onnx").run(inputs) for each in (model, converted)]
    except Exception:  # the converter and the runtime raise many kinds
        return model, []
    return (model, []) if differ_by(model, None)(*answers) else (converted, [f"opset: {opset} instead of {found}"])
