"""Agreement of detectors: boxes that find partners."""

import numpy as np
import pytest

from service.tasks.agreement import Incomparable, check_comparable, measure_between
from service.tasks.detection.agreement import iou
from tests.golden_rows import committed

MODEL = committed("detector")
A, B, C = (0.0, 0.0, 100.0, 100.0), (200.0, 0.0, 300.0, 100.0), (0.0, 200.0, 100.0, 300.0)


def row(*found: tuple[tuple[float, ...], int], score: float = 0.99):
    """A row of the graph, filled up as the graph does."""
    boxes, scores, classes = np.zeros((300, 4), np.float32), np.zeros(300, np.float32), np.zeros(300, np.int64)
    for index, (box, label) in enumerate(found):
        boxes[index], scores[index], classes[index] = box, score, label
    return boxes, scores, classes, np.float32(0.5)


def compare(ours, theirs):
    return measure_between(MODEL.task, MODEL.manifest, MODEL.manifest).compare(ours, theirs)


def test_iou():
    boxes = np.array([A, B], np.float32)
    half = np.array([(0, 0, 100, 50), (0, 0, 0, 0)], np.float32)
    np.testing.assert_allclose(iou(boxes, half), [[0.5, 0], [0, 0]])
    assert not iou(half[1:], half[1:]).any()


def test_boxes_in_another_order_agree():
    assert compare(row((A, 0), (B, 1)), row((B, 1), (A, 0))) == (True, 0.0, MODEL.manifest.labels[0])


def test_a_box_may_move_a_little():
    moved = tuple(value + 20 for value in A)  # an IoU of 0.47
    assert compare(row((A, 0)), row(((0, 0, 100, 60), 0))).agrees
    assert compare(row((A, 0)), row((moved, 0))) == (False, 1.0, MODEL.manifest.labels[0])


def test_a_missing_box_an_additional_one_and_another_label_disagree():
    assert compare(row((A, 0), (B, 1)), row((A, 0))) == (False, pytest.approx(1 / 3), MODEL.manifest.labels[0])
    assert compare(row((A, 0)), row((A, 0), (B, 1))).difference == pytest.approx(1 / 3)
    assert compare(row((A, 0)), row((A, 1))).difference == 1
    assert compare(row(), row((A, 0))) == (False, 1.0, None)


def test_a_box_has_one_partner():
    assert compare(row((A, 0), (A, 0)), row((A, 0))).difference == pytest.approx(1 / 3)


def test_boxes_below_the_threshold_do_not_count():
    below = MODEL.manifest.default_confidence - 0.01
    assert compare(row(), row((C, 0), score=below)) == (True, 0.0, None)
    assert compare(row((A, 0)), row((A, 0), score=below)).difference == 1


def test_the_most_boxes_are_compared_in_bounded_time():
    crowd = row(*[(A, 0)] * 300)
    assert compare(crowd, crowd).agrees


def test_labels_are_compared_by_name():
    turned = MODEL.manifest.model_copy(update={"labels": MODEL.manifest.labels[::-1]})
    _, by_name = measure_between(MODEL.task, MODEL.manifest, turned)
    last = len(turned.labels) - 1
    assert by_name(row((A, 0)), row((A, last))).agrees
    others = MODEL.manifest.model_copy(update={"labels": ("x", "y", "z")})
    with pytest.raises(Incomparable, match="no label in common"):
        check_comparable(MODEL.task, MODEL.manifest, others)
