"""How YOLO networks write boxes, and the graph that selects the best ones, overlapping boxes suppressed.

The selection uses operators that mean the same from opset 11 on, so that the network keeps its own.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, compose, parser

MINIMUM_OPSET = 11
OUTPUTS = ("boxes", "scores", "classes")
# The most boxes of an image, as in Ultralytics' prediction.
MOST = 300
# Boxes with a lower score are dropped, as in Ultralytics' validation.
FLOOR = 0.001

Head = Literal["yolov8", "yolov5", "end2end"]
Rows = npt.NDArray[np.float32]

# A sigmoid in half precision may exceed 1 by this.
_ROUNDING = 1e-3
# No decoded box is so many times larger than the picture.
_FAR = 100
_COLUMNS: Mapping[Head, str] = {"yolov8": "4 + labels", "yolov5": "5 + labels", "end2end": "6"}


class Layout(NamedTuple):
    """Where the boxes are in an output of shape (batch, boxes, columns), or (batch, columns, boxes).

    Attributes:
        head: `yolov8`: centre x and y, width, height, and a score for each label. `yolov5`: the same with a score of the
            box before those of the labels, which it multiplies. `end2end`: x_min, y_min, x_max, y_max, score, label; what
            overlaps is suppressed already. All in pixels of the input.
        columns_first: the shape is (batch, columns, boxes).
    """

    head: Head
    columns_first: bool

    def __str__(self) -> str:
        axes = (_COLUMNS[self.head], "boxes")
        return f"{self.head} [batch, {', '.join(axes if self.columns_first else axes[::-1])}]"

    def rows(self, output: npt.NDArray[np.floating]) -> Rows:
        """The boxes of all images in an output, shape (boxes, columns)."""
        rows = output.swapaxes(1, 2) if self.columns_first else output
        return rows.reshape(-1, rows.shape[2]).astype(np.float32)


class Ambiguous(ValueError):
    """An output may have several layouts; the message names them."""


def layout_of(output: npt.NDArray[np.floating], size: tuple[int, int], labels: int, head: Head | None = None) -> Layout:
    """The layout that an output has, by its shape and its values.

    Args:
        output: the network's answers to real pictures, if there are any.
        size: height and width of the network's input in pixels.
        labels: their number.
        head: accept this one only.

    Raises:
        ValueError: it has none; the message says why.
        Ambiguous: it may have several.
    """
    possible = [layout for layout in _layouts(output.shape, labels) if head in (None, layout.head)]
    if not possible:
        wanted = ", ".join(_COLUMNS[each] for each in ([head] if head else _COLUMNS))
        raise ValueError(f"its shape {list(output.shape)} has no axis of {wanted} values, with {labels} labels")
    objections = {layout: _objection(layout, output, size, labels) for layout in possible}
    fitting = [layout for layout, reason in objections.items() if reason is None]
    if not fitting:
        raise ValueError("; ".join(f"read as {layout}, {reason}" for layout, reason in objections.items()))
    # Scores are no whole numbers in all boxes, indices of labels are.
    certain = [layout for layout in fitting if layout.head == "end2end" and _has_indices(layout.rows(output))]
    if len(fitting) > 1 and not certain:
        raise Ambiguous(" or ".join(map(str, fitting)))
    return (certain or fitting)[0]


def _layouts(shape: tuple[int, ...], labels: int) -> list[Layout]:
    """The layouts that an output of this shape can have."""
    if len(shape) != 3:
        return []
    columns: Mapping[Head, int] = {"end2end": 6, "yolov8": 4 + labels, "yolov5": 5 + labels}
    return [
        Layout(head, columns_first)
        for head, count in columns.items()
        # Suppressed boxes come first.
        for columns_first in ((False,) if head == "end2end" else (True, False))
        if shape[1 if columns_first else 2] == count
    ]


def _objection(layout: Layout, output: npt.NDArray[np.floating], size: tuple[int, int], labels: int) -> str | None:
    """Why the values of an output cannot have this layout; None if they can."""
    rows = layout.rows(output)
    if not np.isfinite(rows).all():
        return "it has values that are not finite"
    boxes, scores = rows[:, :4], rows[:, 4:]
    if layout.head == "end2end":
        scores, indices = rows[:, 4:5], rows[:, 5]
        if (indices != indices.round()).any() or indices.min() < 0 or indices.max() >= labels:
            return f"its last column is no index of {labels} labels"
        if (boxes[:, 2:] < boxes[:, :2] - 1).any():
            return "its first four columns are no corners of boxes"
    elif (boxes[:, 2:] < 0).any():
        return "widths and heights of its boxes are negative"
    if scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING:
        return f"its scores lie between {scores.min():.3g} and {scores.max():.3g}, not between 0 and 1"
    farthest = float(np.abs(boxes).max())
    if boxes.any() and farthest <= 2:
        return "its boxes are shares of the picture, not pixels"
    if farthest > _FAR * max(size):
        return f"its boxes reach {farthest:.3g} pixels, with pictures of {size[1]} x {size[0]}"
    return None


def _has_indices(rows: Rows) -> bool:
    """Whether the last of 6 columns tells labels apart that no score could."""
    return bool(rows[:, 4].any() and (rows[:, 5] == rows[:, 5].round()).all() and np.ptp(rows[:, 5]))


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
        model: whose inner names begin neither with `select/` nor are those of the outputs.
        output: the one that holds the boxes.
        layout: of that output.
        shape: of that output; the first axis is the batch.
        size: height and width of the network's input in pixels.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    (declared,) = (value for value in copy.graph.output if value.name == output)
    element = declared.type.tensor_type.elem_type
    for axis, known in zip(declared.type.tensor_type.shape.dim, ("batch", *shape[1:]), strict=True):
        axis.Clear()
        if isinstance(known, str):
            axis.dim_param = known
        else:
            axis.dim_value = known
    graph = compose.add_prefix_graph(
        parser.parse_graph(_text(layout, shape, element, size, selection)),
        "select/",
        rename_inputs=False,
        rename_outputs=False,
    )
    # `merge_models` refuses networks whose nodes a converter left in another order than they run in.
    merged: GraphProto = compose.merge_graphs(copy.graph, graph, [(output, "raw")], outputs=list(OUTPUTS))
    copy.graph.CopyFrom(merged)
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
    starts = ", ".join(f"int64[1] at_{at} = {{{at}}}" for at in (0, 1, 2, 4, 5, 6))
    return f"""
        select ({_ELEMENTS[element]}[batch, {shape[1]}, {shape[2]}] raw)
        => (float[batch, {most}, 4] boxes, float[batch, {most}] scores, int64[batch, {most}] classes)
        <{starts}, int64[1] at_end = {{{columns}}}, int64[1] axis_0 = {{0}}, int64[1] axis_2 = {{2}},
         int64[2] per_image = {{0, -1}}, int64[3] per_box = {{0, -1, 1}}, int64[3] corners_shape = {{1, 1, 4}},
         int64[1] most = {{{most}}}, int64 no_label = {{0}}, float zero = {{0.0}}, float one = {{1.0}}, float half = {{0.5}},
         float floor = {{{FLOOR}}}, float iou = {{{selection.iou or 0.0}}}, float span = {{{4.0 * side}}},
         float least = {{{-1.5 * side}}}, float greatest = {{{2.5 * side}}}> {{
            {lines}
        }}"""


def _suppression(selection: Selection) -> str:
    if selection.iou is None:
        return "above = Greater (ranked, floor)"
    return ("apart = Identity (corners)" if selection.class_agnostic else _APART) + _SUPPRESS


_ELEMENTS = {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "double"}
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
    columns = Expand (column, corners_shape)
    best_corners = GatherElements <axis = 1> (corners, columns)
    found_column = Reshape (found, per_box)
    boxes = Where (found_column, best_corners, zero)"""
