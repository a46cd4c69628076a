"""The graphs around an exported YOLO network: uint8 pixels in, the best boxes out, overlapping ones suppressed.

Everything here is written in operators that mean the same from opset 11 on, so that the network keeps its own.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, TensorProto, compose, helper, parser

MINIMUM_OPSET = 11
INPUT = "images"
OUTPUTS = ("boxes", "scores", "classes")
# The most boxes of an image, as Ultralytics has it.
MOST = 300
# Boxes below this score are dropped, as in Ultralytics' validation.
FLOOR = 0.001
# Of the scores' sigmoid, and of half precision.
_ROUNDING = 1e-3

Head = Literal["yolov8", "yolov5", "end2end"]
Rows = npt.NDArray[np.float32]


class Layout(NamedTuple):
    """How the boxes lie in an output of shape (batch, boxes, columns), or (batch, columns, boxes).

    Attributes:
        head: `yolov8`: centre x, y, width, height and a score of each label. `yolov5`: the same with the box's own
            score before those of the labels, which it multiplies. `end2end`: x_min, y_min, x_max, y_max, score and
            label; overlapping boxes are suppressed already. All in pixels of the input.
        columns_first: the shape is (batch, columns, boxes).
    """

    head: Head
    columns_first: bool

    def __str__(self) -> str:
        columns = {"yolov8": "4 + labels", "yolov5": "5 + labels", "end2end": "6"}[self.head]
        axes = (columns, "boxes") if self.columns_first else ("boxes", columns)
        return f"{self.head}: [batch, {', '.join(axes)}]"

    def rows(self, output: npt.NDArray[np.floating]) -> Rows:
        """The output of any batch as boxes of all images, shape (boxes, columns)."""
        rows = output.swapaxes(1, 2) if self.columns_first else output
        return rows.reshape(-1, rows.shape[2]).astype(np.float32)


def layouts(shape: tuple[int, ...], labels: int) -> list[Layout]:
    """The layouts that an output of this shape can have."""
    if len(shape) != 3:
        return []
    columns: Mapping[Head, int] = {"end2end": 6, "yolov8": 4 + labels, "yolov5": 5 + labels}
    return [
        Layout(head, columns_first)
        for head, count in columns.items()
        # What is suppressed already has the boxes first.
        for columns_first in ((False,) if head == "end2end" else (True, False))
        if shape[1 if columns_first else 2] == count
    ]


def objection(layout: Layout, output: npt.NDArray[np.floating], size: tuple[int, int], labels: int) -> str | None:
    """Why the values of an output cannot have this layout; None if they can.

    Args:
        output: of the network, for real pictures if there are any.
        size: height and width of the network's input in pixels.
    """
    rows = layout.rows(output)
    if not np.isfinite(rows).all():
        return "it holds values that are not finite"
    boxes, rest = rows[:, :4], rows[:, 4:]
    if layout.head == "end2end":
        scores, classes = rest[:, :1], rest[:, 1]
        if (classes != classes.round()).any() or classes.min() < 0 or classes.max() >= labels:
            return f"its last column is no index of {labels} labels"
        if (boxes[:, 2:] < boxes[:, :2] - 1).any():
            return "its first four columns are no corners of boxes"
    else:
        scores = rest
        if (boxes[:, 2:] < -1).any():
            return "the widths and heights of its boxes are negative"
    if scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING:
        return f"its scores lie between {scores.min():.3g} and {scores.max():.3g}, not between 0 and 1"
    if boxes.any() and np.abs(boxes).max() <= 2:
        return "its boxes are shares of the picture, not pixels"
    if np.abs(boxes).max() > 100 * max(size):
        return f"its boxes reach {np.abs(boxes).max():.3g} pixels, far outside the picture of {size[1]} x {size[0]}"
    return None


def choose_layout(
    output: npt.NDArray[np.floating], size: tuple[int, int], labels: int, head: Head | None = None
) -> Layout | str:
    """The layout that an output has by its shape and its values, or why there is none.

    Args:
        output: of the network, for real pictures if there are any.
        size: height and width of the network's input in pixels.
        labels: their number.
        head: accept this one only.
    """
    shape = output.shape
    possible = [layout for layout in layouts(shape, labels) if head in (None, layout.head)]
    if not possible:
        return f"its shape {list(shape)} has no axis of {labels} labels with a box"
    objections = {layout: objection(layout, output, size, labels) for layout in possible}
    fitting = [layout for layout, reason in objections.items() if reason is None]
    if not fitting:
        layout, reason = next(iter(objections.items()))
        return f"read as {layout}, {reason}"
    # Among thousands of boxes that have a score for each label, some last column is no whole number.
    suppressed = [layout for layout in fitting if layout.head == "end2end"]
    if suppressed and layout_is_certain(suppressed[0].rows(output)):
        fitting = suppressed
    if len(fitting) > 1:
        return f"it may be {' or '.join(map(str, fitting))}"
    return fitting[0]


def layout_is_certain(rows: Rows) -> bool:
    """Whether rows of 6 columns hold boxes that can only be corners, a score and a label."""
    return bool(rows[:, 4].any() and (np.diff(rows[:, 5]) != 0).any())


def prepare(size: tuple[int, int], dtype: int, model: ModelProto) -> ModelProto:
    """A graph from uint8 pixels (batch, height, width, 3) to planes (batch, 3, height, width) between 0 and 1.

    Args:
        size: height and width.
        dtype: of the planes, as ONNX numbers it.
        model: whose versions of ONNX it takes.
    """
    height, width = size
    text = f"""
        prepare (uint8[batch, {height}, {width}, 3] {INPUT}) => ({_name(dtype)}[batch, 3, {height}, {width}] prepared)
        <float white = {{255.0}}> {{
            planes = Transpose <perm = [0, 3, 1, 2]> ({INPUT})
            values = Cast <to = {TensorProto.FLOAT}> (planes)
            shares = Div (values, white)
            prepared = Cast <to = {dtype}> (shares)
        }}"""
    return _model(text, model, "prepare/")


def select(
    layout: Layout,
    shape: tuple[int, ...],
    dtype: int,
    size: tuple[int, int],
    iou: float | None,
    model: ModelProto,
    *,
    class_agnostic: bool = False,
) -> ModelProto:
    """A graph from the network's output to `boxes`, `scores` and `classes`, the best first, filled up with zeros.

    A box has its best label only, and of overlapping boxes of a label the best is kept, as in Ultralytics' prediction.

    Args:
        layout: of the output.
        shape: of the output; the first axis is the batch.
        dtype: of the output, as ONNX numbers it.
        size: height and width of the network's input in pixels.
        iou: boxes that overlap by more are suppressed; None to suppress none.
        class_agnostic: boxes of different labels suppress each other.
        model: whose versions of ONNX it takes.
    """
    columns, count = (shape[1], shape[2]) if layout.columns_first else (shape[2], shape[1])
    most, side = min(MOST, count), max(size)
    declared = "batch, " + ", ".join(map(str, shape[1:]))
    lines = ["output = Cast <to = 1> (raw)"]
    lines += ["rows = Transpose <perm = [0, 2, 1]> (output)" if layout.columns_first else "rows = Identity (output)"]
    if layout.head == "end2end":
        lines += [
            "corners = Slice (rows, at_0, at_4, axis_2)",
            "score = Slice (rows, at_4, at_5, axis_2)",
            "label_value = Slice (rows, at_5, at_6, axis_2)",
            "label = Cast <to = 7> (label_value)",
        ]
    else:
        lines += [
            "centre = Slice (rows, at_0, at_2, axis_2)",
            "extent = Slice (rows, at_2, at_4, axis_2)",
            "half_extent = Mul (extent, half)",
            "low = Sub (centre, half_extent)",
            "high = Add (centre, half_extent)",
            "corners = Concat <axis = 2> (low, high)",
        ]
        if layout.head == "yolov5":
            lines += [
                "of_box = Slice (rows, at_4, at_5, axis_2)",
                "given_box = Slice (rows, at_5, at_end, axis_2)",
                "of_labels = Mul (of_box, given_box)",
            ]
        else:
            lines += ["of_labels = Slice (rows, at_4, at_end, axis_2)"]
        lines += [
            "label = ArgMax <axis = 2, keepdims = 1> (of_labels)",
            "score = GatherElements <axis = 2> (of_labels, label)",
        ]
    if iou is None:
        lines += ["above = Greater (score, floor)"]
    else:
        lines += ["apart = Identity (corners)"]
        if not class_agnostic:
            # Far enough from each other, boxes of different labels do not overlap. One call of the operator for all
            # labels then takes the place of one for each, which on CUDA are launched one after the other.
            lines[-1:] = [
                "near = Clip (corners, least, greatest)",
                "label_number = Cast <to = 1> (label)",
                "shift = Mul (label_number, span)",
                "apart = Add (near, shift)",
            ]
        lines += [
            "ranked = Transpose <perm = [0, 2, 1]> (score)",
            "kept = NonMaxSuppression (apart, ranked, most, iou, floor)",
            "kept_shape = Shape (kept)",
            "kept_count = Slice (kept_shape, at_0, at_1, axis_0)",
            "ones = Expand (one, kept_count)",
            "ranked_shape = Shape (ranked)",
            "nothing = ConstantOfShape (ranked_shape)",
            "marks = ScatterND (nothing, kept, ones)",
            "marks_of_rows = Transpose <perm = [0, 2, 1]> (marks)",
            "above = Greater (marks_of_rows, zero)",
        ]
    lines += [
        "kept_score = Where (above, score, zero)",
        "flat_score = Reshape (kept_score, per_image)",
        "scores, index = TopK <axis = 1> (flat_score, most)",
        "found = Greater (scores, zero)",
        "flat_label = Reshape (label, per_image)",
        "best_label = GatherElements <axis = 1> (flat_label, index)",
        "classes = Where (found, best_label, no_label)",
        "column = Reshape (index, per_box)",
        "index_of_corners = Expand (column, four)",
        "best_corners = GatherElements <axis = 1> (corners, index_of_corners)",
        "found_column = Reshape (found, per_box)",
        "boxes = Where (found_column, best_corners, zero)",
    ]
    newline = "\n            "
    starts = ", ".join(f"int64[1] at_{at} = {{{at}}}" for at in (0, 1, 2, 4, 5, 6))
    text = f"""
        select ({_name(dtype)}[{declared}] raw)
        => (float[batch, {most}, 4] boxes, float[batch, {most}] scores, int64[batch, {most}] classes)
        <{starts}, int64[1] at_end = {{{columns}}}, int64[1] axis_0 = {{0}}, int64[1] axis_2 = {{2}},
         int64[2] per_image = {{0, -1}}, int64[3] per_box = {{0, -1, 1}}, int64[3] four = {{1, 1, 4}},
         int64[1] most = {{{most}}}, int64 no_label = {{0}}, float zero = {{0.0}}, float one = {{1.0}},
         float half = {{0.5}}, float floor = {{{FLOOR}}}, float iou = {{{iou or 0.0}}}, float span = {{{4.0 * side}}},
         float least = {{{-1.5 * side}}}, float greatest = {{{2.5 * side}}}> {{
            {newline.join(lines)}
        }}"""
    return _model(text, model, "select/")


def compose_detector(
    network: ModelProto,
    output: str,
    layout: Layout,
    shape: tuple[int, ...],
    size: tuple[int, int],
    iou: float | None,
    *,
    class_agnostic: bool = False,
) -> ModelProto:
    """The whole detector: pixels, network, selection. Outputs of the network that it does not need are gone.

    Args:
        network: its only input is (batch, 3, height, width).
        output: the name of the output that holds the boxes, of this layout and shape.
    """
    planes = network.graph.input[0]
    dtype = planes.type.tensor_type.elem_type
    (value,) = (each for each in network.graph.output if each.name == output)
    before = prepare(size, dtype, network)
    after = select(layout, shape, value.type.tensor_type.elem_type, size, iou, network, class_agnostic=class_agnostic)
    inner = compose.add_prefix(network, "network/")
    # The declared sizes of a network with open axes say less than what is known here.
    for declared, known in ((inner.graph.input[0], (3, *size)), (_output(inner, "network/" + output), shape[1:])):
        _declare(declared, known)
    del inner.graph.value_info[:]
    # Not `merge_models`, whose check refuses networks that converters left in another order than they run in.
    graph = compose.merge_graphs(
        before.graph, inner.graph, [("prepared", "network/" + planes.name)], outputs=["network/" + output]
    )
    graph = compose.merge_graphs(graph, after.graph, [("network/" + output, "raw")], name="detector")
    whole = helper.make_model(
        graph,
        functions=inner.functions,
        opset_imports=network.opset_import,
        ir_version=network.ir_version,
        producer_name=network.producer_name,
        producer_version=network.producer_version,
    )
    whole.metadata_props.extend(network.metadata_props)
    return whole


def fix_size(network: ModelProto, size: tuple[int, int]) -> ModelProto:
    """A copy of a network whose input has this height and width, and an open first axis if it had one."""
    copy = ModelProto()
    copy.CopyFrom(network)
    del copy.graph.value_info[:]
    for axis, known in zip(copy.graph.input[0].type.tensor_type.shape.dim[1:], (3, *size), strict=True):
        axis.dim_value = known
    for value in copy.graph.output:
        for axis in value.type.tensor_type.shape.dim[1:]:
            axis.Clear()
    return copy


def free_reshapes(model: ModelProto) -> ModelProto:
    """A copy in which no Reshape has a fixed first axis, so that it may take more items than it was exported with.

    The other axes keep the sizes that they have for the fixed input. Whether the items stay apart, answers decide.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    known = onnx.shape_inference.infer_shapes(copy).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*known.value_info, *known.output)}
    constants = {value.name for value in copy.graph.initializer}
    constants |= {node.output[0] for node in copy.graph.node if node.op_type == "Constant"}
    for index, node in enumerate(copy.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in constants or node.output[0] not in shapes:
            continue
        rest = [axis.dim_value for axis in shapes[node.output[0]]][1:]
        if not all(rest):
            continue
        # Several nodes may share a target.
        target = f"target_{index}"
        copy.graph.initializer.append(helper.make_tensor(target, TensorProto.INT64, [1 + len(rest)], [-1, *rest]))
        node.input[1] = target
    del copy.graph.value_info[:]
    return copy


def _output(model: ModelProto, name: str) -> onnx.ValueInfoProto:
    return next(value for value in model.graph.output if value.name == name)


def _declare(value: onnx.ValueInfoProto, sizes: tuple[int, ...]) -> None:
    axes = value.type.tensor_type.shape.dim
    axes[0].dim_param = "batch"
    for axis, size in zip(axes[1:], sizes, strict=True):
        axis.dim_value = size


def _name(dtype: int) -> str:
    """As ONNX's text format has it."""
    return {TensorProto.FLOAT: "float", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "double"}[dtype]


def _model(text: str, like: ModelProto, prefix: str) -> ModelProto:
    """A model from the text of its graph, with the versions of another, and a prefix for its inner names."""
    graph = parser.parse_graph(text)
    model = helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)
    return compose.add_prefix(model, prefix, rename_inputs=False, rename_outputs=False)
