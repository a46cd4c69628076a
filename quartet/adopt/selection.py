"""The nodes after a YOLO network: the best boxes of each image, and of overlapping ones only the best.

Their operators mean the same from opset 11 on, so that the network keeps its own.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from onnx import ModelProto, TensorProto, compose, parser

from quartet.adopt.yolo import Head, Layout

MINIMUM_OPSET = 11
OUTPUTS = ("boxes", "scores", "classes")
# The most boxes of an image, as in Ultralytics' prediction.
MOST = 300
# Boxes with a lower score are dropped, as in Ultralytics' validation.
FLOOR = 0.001

_ELEMENTS: Mapping[int, str] = {
    TensorProto.FLOAT: "float",
    TensorProto.FLOAT16: "float16",
    TensorProto.DOUBLE: "double",
}
_BEST_LABEL = """
    label = ArgMax <axis = 2, keepdims = 1> (of_labels)
    score = GatherElements <axis = 2> (of_labels, label)"""
_CORNERS = """
    centre = Slice (rows, at_0, at_2, axis_2)
    extent = Slice (rows, at_2, at_4, axis_2)
    half_extent = Mul (extent, half)
    low = Sub (centre, half_extent)
    high = Add (centre, half_extent)
    corners = Concat <axis = 2> (low, high)"""
# Corners, score and label of each box, shape (batch, boxes, 4 or 1).
_READ: Mapping[Head, str] = {
    "yolov8": f"""{_CORNERS}
    of_labels = Slice (rows, at_4, at_end, axis_2){_BEST_LABEL}""",
    "yolov5": f"""{_CORNERS}
    of_box = Slice (rows, at_4, at_5, axis_2)
    given_box = Slice (rows, at_5, at_end, axis_2)
    of_labels = Mul (of_box, given_box){_BEST_LABEL}""",
    "end2end": """
    corners = Slice (rows, at_0, at_4, axis_2)
    score = Slice (rows, at_4, at_5, axis_2)
    index = Slice (rows, at_5, at_6, axis_2)
    label = Cast <to = 7> (index)""",
}
# Boxes of different labels are moved so far apart that they cannot overlap. One call of the operator then does for all
# labels; with a call for each, CUDA runs them one after the other.
_APART = """
    near = Clip (corners, least, greatest)
    number = Cast <to = 1> (label)
    shift = Mul (number, span)
    apart = Add (near, shift)"""
_SUPPRESS = """
    kept = NonMaxSuppression (apart, ranked, most, iou, floor)
    kept_shape = Shape (kept)
    kept_count = Slice (kept_shape, at_0, at_1, axis_0)
    ones = Expand (one, kept_count)
    ranked_shape = Shape (ranked)
    none = ConstantOfShape (ranked_shape)
    marks = ScatterND (none, kept, ones)
    above = Greater (marks, zero)"""
# The boxes above the floor, the best first; zeros fill up, which hides that those after the last come in any order.
_BEST = """
    kept_score = Where (above, ranked, zero)
    flat_score = Reshape (kept_score, per_image)
    scores, order = TopK <axis = 1> (flat_score, most)
    found = Greater (scores, zero)
    flat_label = Reshape (label, per_image)
    best_label = GatherElements <axis = 1> (flat_label, order)
    classes = Where (found, best_label, no_label)
    column = Reshape (order, per_box)
    columns = Expand (column, four)
    best_corners = GatherElements <axis = 1> (corners, columns)
    found_column = Reshape (found, per_box)
    boxes = Where (found_column, best_corners, zero)"""


class Selection(NamedTuple):
    """How boxes are selected.

    Attributes:
        iou: boxes that overlap by more are suppressed by the best of them; None to suppress none.
        class_agnostic: boxes of different labels suppress each other.
    """

    iou: float | None
    class_agnostic: bool = False


def with_selection(
    model: ModelProto, output: str, layout: Layout, shape: tuple[int, ...], size: tuple[int, int], selection: Selection
) -> ModelProto:
    """The graph with the outputs `boxes`, `scores` and `classes` only, the best first, filled up with zeros.

    As in Ultralytics' prediction a box has its best label alone, and overlapping boxes of a label are suppressed.

    Args:
        model: whose inner names neither begin with `select/` nor are those of the outputs.
        output: the one that holds the boxes.
        layout: of that output.
        shape: of that output; the first axis is the batch.
        size: height and width of the network's input in pixels.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    (element,) = (value.type.tensor_type.elem_type for value in copy.graph.output if value.name == output)
    graph = compose.add_prefix_graph(
        parser.parse_graph(_text(layout, shape, element, size, selection)),
        "select/",
        rename_inputs=False,
        rename_outputs=False,
    )
    for node in graph.node:
        node.input[:] = [output if name == "raw" else name for name in node.input]
    copy.graph.node.extend(graph.node)
    copy.graph.initializer.extend(graph.initializer)
    del copy.graph.output[:]
    copy.graph.output.extend(graph.output)
    return copy


def _text(layout: Layout, shape: tuple[int, ...], element: int, size: tuple[int, int], selection: Selection) -> str:
    """The selection in ONNX's text format."""
    columns, count = (shape[1:] if layout.columns_first else shape[:0:-1])[:2]
    most, side = min(MOST, count), max(size)
    lines = "\n".join(
        [
            "output = Cast <to = 1> (raw)",
            "rows = Transpose <perm = [0, 2, 1]> (output)" if layout.columns_first else "rows = Identity (output)",
            _READ[layout.head],
            "ranked = Transpose <perm = [0, 2, 1]> (score)",
            _suppression(selection),
            _BEST,
        ]
    )
    constants = {
        **{f"int64[1] at_{at}": at for at in (0, 1, 2, 4, 5, 6)},
        "int64[1] at_end": columns,
        "int64[1] axis_0": 0,
        "int64[1] axis_2": 2,
        "int64[2] per_image": "0, -1",
        "int64[3] per_box": "0, -1, 1",
        "int64[3] four": "1, 1, 4",
        "int64[1] most": most,
        "int64 no_label": 0,
        "float zero": 0.0,
        "float half": 0.5,
        "float one": 1.0,
        "float floor": FLOOR,
        "float iou": selection.iou or 0.0,
        "float span": 4.0 * side,
        "float least": -1.5 * side,
        "float greatest": 2.5 * side,
    }
    used = set(re.findall(r"\w+", lines))
    stated = ", ".join(f"{name} = {{{value}}}" for name, value in constants.items() if name.split()[1] in used)
    return f"""
        select ({_ELEMENTS[element]}[batch, {shape[1]}, {shape[2]}] raw)
        => (float[batch, {most}, 4] boxes, float[batch, {most}] scores, int64[batch, {most}] classes)
        <{stated}> {{
            {lines}
        }}"""


def _suppression(selection: Selection) -> str:
    if selection.iou is None:
        return "above = Greater (ranked, floor)"
    return ("apart = Identity (corners)" if selection.class_agnostic else _APART) + _SUPPRESS
