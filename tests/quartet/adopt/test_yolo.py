import numpy as np
import pytest

from quartet.adopt.yolo import Ambiguous, Layout, layout_of

SIZE = (320, 640)
RANDOM = np.random.default_rng(0)


def output(head: str, labels: int, boxes: int = 200) -> np.ndarray:
    """Boxes of two images, (2, boxes, columns)."""
    centres = RANDOM.random((2, boxes, 2)) * SIZE[::-1]
    sizes = RANDOM.random((2, boxes, 2)) * 100 + 5
    if head == "end2end":
        corners = np.concatenate([centres - sizes / 2, centres + sizes / 2], -1)
        index = RANDOM.integers(0, labels, (2, boxes, 1))
        return np.concatenate([corners, RANDOM.random((2, boxes, 1)), index], -1).astype(np.float32)
    scores = RANDOM.random((2, boxes, labels + (head == "yolov5")))
    return np.concatenate([centres, sizes, scores], -1).astype(np.float32)


@pytest.mark.parametrize("head", ["yolov8", "yolov5", "end2end"])
@pytest.mark.parametrize("labels", [1, 2, 3, 80])
def test_a_layout_is_told_by_the_shape_and_the_values(head: str, labels: int):
    rows = output(head, labels)
    if head == "end2end" and labels == 1:
        with pytest.raises(Ambiguous, match=r"yolov5 .* or end2end \[batch, boxes, 6\]"):
            layout_of(rows, SIZE, labels)
        assert layout_of(rows, SIZE, labels, "end2end") == Layout("end2end", columns_first=False)
        return
    usual = rows.swapaxes(1, 2) if head == "yolov8" else rows
    assert layout_of(usual, SIZE, labels) == Layout(head, columns_first=head == "yolov8")
    assert layout_of(rows.swapaxes(1, 2), SIZE, labels, head) == Layout(head, columns_first=True)


@pytest.mark.parametrize(("head", "labels"), [("yolov8", 2), ("yolov8", 4), ("yolov5", 2), ("yolov5", 4)])
def test_a_label_too_few_or_too_many_is_not_taken_for_another_head(head: str, labels: int):
    rows = output(head, 3)
    with pytest.raises(ValueError, match="is none of"):
        layout_of(rows.swapaxes(1, 2) if head == "yolov8" else rows, SIZE, labels)


def test_the_best_score_is_that_of_a_label():
    rows = np.float32([[[8, 8, 4, 4, 0.5, 0.4, 0.2], [8, 8, 4, 4, 0.2, 0.9, 0.1]]])
    assert Layout("yolov5", columns_first=False).best_score(rows) == pytest.approx(0.2)
    assert Layout("yolov8", columns_first=True).best_score(rows.swapaxes(1, 2)) == pytest.approx(0.9)
    assert Layout("end2end", columns_first=False).best_score(rows[..., :6]) == pytest.approx(0.5)
    assert Layout("yolov8", columns_first=True).boxes(rows.swapaxes(1, 2)) == 2


def changed(rows: np.ndarray, columns: slice, value: float) -> np.ndarray:
    copy = rows.copy()
    copy[..., columns] = value
    return copy


@pytest.mark.parametrize(
    ("rows", "labels", "says"),
    [
        (
            output("yolov8", 3).swapaxes(1, 2),
            4,
            r"its shape \[batch, 7, 200\] is none of yolov8 \[batch, 8, boxes\], yolov5 \[batch, boxes, 9\], end2end",
        ),
        (output("yolov8", 3)[0], 3, "is none of"),
        (changed(output("yolov8", 3), slice(4, 5), 7.5), 3, "scores lie between .* and 7.5"),
        (changed(output("yolov8", 3), slice(0, 4), 0.5), 3, "shares of the picture"),
        (changed(output("yolov8", 3), slice(0, 1), 1e6), 3, r"reach 1e\+06 pixels, with pictures of 640 x 320"),
        (changed(output("yolov8", 3), slice(2, 3), -4), 3, "negative"),
        (changed(output("yolov8", 3), slice(2, 3), np.nan), 3, "not finite"),
        (changed(output("end2end", 5), slice(5, 6), 5), 5, "no index of 5 labels"),
        (changed(output("end2end", 5), slice(2, 3), -9), 5, "no corners"),
    ],
)
def test_what_cannot_be_boxes_is_refused_with_the_reason(rows: np.ndarray, labels: int, says: str):
    with pytest.raises(ValueError, match=says):
        layout_of(rows, SIZE, labels, None if "none of" in says or labels == 5 else "yolov8")
