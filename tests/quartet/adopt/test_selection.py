"""The selection in a graph against the same in NumPy, written as Ultralytics' prediction does it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quartet.adopt.graph import open_session
from quartet.adopt.selection import FLOOR, MOST, OUTPUTS, Selection, with_selection
from quartet.adopt.yolo import Layout
from service.tasks.detection.agreement import iou as overlaps

SIZE = (96, 128)
LABELS = 3


def identity(columns: tuple[int, int], opset: int, element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    values = (helper.make_tensor_value_info(name, element, ["n", *columns]) for name in ("given", "output0"))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["given"], ["output0"])], "identity", [next(values)], [next(values)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def crowd(head: str, boxes: int, seed: int) -> np.ndarray:
    """Boxes of three images that overlap often, (3, boxes, columns); scores differ from each other."""
    random = np.random.default_rng(seed)
    centres = random.integers(0, 6, (3, boxes, 2)) * 20 + random.normal(0, 3, (3, boxes, 2))
    sizes = random.normal(24, 3, (3, boxes, 2))
    scores = random.permutation(3 * boxes * LABELS).reshape(3, boxes, LABELS) / (3 * boxes * LABELS)
    if head == "end2end":
        corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], -1)
        rows = [corners, scores.max(-1, keepdims=True), scores.argmax(-1)[..., None]]
    elif head == "yolov5":
        rows = [centres, sizes, random.random((3, boxes, 1)), scores]
    else:
        rows = [centres, sizes, scores]
    return np.concatenate(rows, -1).astype(np.float32)


def select(head: str, rows: np.ndarray, selection: Selection) -> list[tuple[np.ndarray, float, int]]:
    """The boxes of an image that are kept, the best first."""
    if head == "end2end":
        corners, scores, labels = rows[:, :4], rows[:, 4], rows[:, 5].astype(int)
    else:
        corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)
        of_labels = rows[:, 4:5] * rows[:, 5:] if head == "yolov5" else rows[:, 4:]
        scores, labels = of_labels.max(1), of_labels.argmax(1)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if selection.class_agnostic or labels[other] == labels[index]]
        if scores[index] <= FLOOR:
            continue
        if selection.iou is not None and rivals and overlaps(corners[[index]], corners[rivals]).max() > selection.iou:
            continue
        kept.append(int(index))
    return [(corners[index], scores[index], labels[index]) for index in kept[:MOST]]


@pytest.mark.parametrize("head", ["yolov8", "yolov5", "end2end"])
@pytest.mark.parametrize(
    "selection", [Selection(0.7), Selection(0.3), Selection(0.3, class_agnostic=True), Selection(None)]
)
@pytest.mark.parametrize(("boxes", "opset"), [(12, 11), (400, 13), (400, 20)])
def test_the_graph_keeps_the_boxes_that_numpy_keeps(head: str, selection: Selection, boxes: int, opset: int):
    rows = crowd(head, boxes, seed=opset)
    columns_first = head == "yolov8"
    given = rows.swapaxes(1, 2) if columns_first else rows
    model = identity(given.shape[1:], opset)
    layout = Layout(head, columns_first)
    graph = with_selection(model, "output0", layout, given.shape, SIZE, selection)
    onnx.checker.check_model(graph, full_check=True)
    assert [value.name for value in graph.graph.output] == list(OUTPUTS)
    found = open_session(graph, "model.onnx").run({"given": np.ascontiguousarray(given)})
    most = min(boxes, MOST)
    assert [array.shape for array in found] == [(3, most, 4), (3, most), (3, most)]
    for image, *(corners, scores, labels) in zip(rows, *found, strict=True):
        want = select(head, image, selection)
        np.testing.assert_allclose(scores[: len(want)], [score for _, score, _ in want], atol=1e-6)
        np.testing.assert_array_equal(labels[: len(want)], [label for *_, label in want])
        np.testing.assert_allclose(corners[: len(want)], [box for box, *_ in want], atol=1e-3)
        # The rest is filled up with zeros.
        assert not scores[len(want) :].any()
        assert not corners[len(want) :].any()
        assert not labels[len(want) :].any()


def test_images_without_a_box_have_zeros():
    graph = with_selection(
        identity((7, 50), 13), "output0", Layout("yolov8", columns_first=True), (1, 7, 50), SIZE, Selection(0.5)
    )
    found = open_session(graph, "model.onnx").run({"given": np.zeros((2, 7, 50), np.float32)})
    assert not any(array.any() for array in found)


def test_networks_in_half_precision_are_cast():
    rows = crowd("yolov8", 40, seed=0).astype(np.float16)
    model = identity((40, 7), 13, TensorProto.FLOAT16)
    graph = with_selection(model, "output0", Layout("yolov8", columns_first=False), rows.shape, SIZE, Selection(None))
    _, scores, _ = open_session(graph, "model.onnx").run({"given": rows})
    np.testing.assert_allclose(scores, -np.sort(-rows[..., 4:].max(-1)), atol=1e-6)
