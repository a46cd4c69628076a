"""Average precision and matching, compared with a slow but simple reference."""

import numpy as np
import pytest

from service.tasks.detection.letterbox import Letterbox
from training.detection.data import DetectionSplit
from training.detection.evaluation import (
    IN_CROWD,
    THRESHOLDS,
    Detections,
    average_precision,
    box_iou,
    matches,
    mistakes,
    precision_by_recall,
    precision_intervals,
    threshold_curves,
)

CLASSES = ("a", "b", "c")
SIDE = 200


def iou(one, other):
    """The IoU of two boxes, by its definition."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return width * height / (area - width * height)


def match(found, boxes, overlap):
    """For each detection of one image and class, the best first, whether it matches a still unmatched object."""
    taken, hits = set(), []
    for box in found:
        candidates = [(iou(box, thing), index) for index, thing in enumerate(boxes) if index not in taken]
        best = max(candidates, default=(0.0, -1))
        hits.append(best[0] >= overlap)
        if hits[-1]:
            taken.add(best[1])
    return hits


def reference_ap(found, split, label, overlap):
    """COCO's: precision, made monotone, at 101 recalls."""
    scored, objects = [], 0
    for image, one in enumerate(found):
        mine = np.flatnonzero(one.classes == label)
        mine = mine[np.argsort(-one.scores[mine], kind="stable")][:100]
        boxes = split.boxes[image][split.labels[image] == label].astype(float)
        objects += len(boxes)
        hits = match(one.boxes[mine].astype(float), boxes, overlap)
        scored += zip(one.scores[mine].tolist(), hits, strict=True)
    scored.sort(key=lambda pair: -pair[0])
    right, points = 0, []
    for count, (_, hit) in enumerate(scored, start=1):
        right += hit
        points.append((right / objects, right / count))
    total = 0.0
    for recall in np.linspace(0, 1, 101):
        total += max((precision for reached, precision in points if reached >= recall), default=0.0)
    return total / 101


def random_boxes(random, count):
    corners = random.uniform(0, SIDE - 60, (count, 2))
    return np.concatenate((corners, corners + random.uniform(8, 60, (count, 2))), 1).astype(np.float32)


def make_split(boxes, labels, crowds=()):
    count = len(boxes)
    return DetectionSplit(
        np.zeros((count, 32, 32, 3), np.uint8),
        tuple(np.asarray(b, np.float32).reshape(-1, 4) for b in boxes),
        tuple(np.asarray(one, np.int64) for one in labels),
        (Letterbox.of(SIDE, SIDE, 32, 32),) * count,
        tuple(str(i) for i in range(count)),
        tuple((np.asarray(b, np.float32).reshape(-1, 4), np.asarray(one, np.int64)) for b, one in crowds),
    )


def random_case(seed, images=8):
    """Objects and their detections, some shifted, some with a wrong class, some false."""
    random = np.random.default_rng(seed)
    boxes = [random_boxes(random, random.integers(0, 9)) for _ in range(images)]
    labels = [random.integers(0, 3, len(b)) for b in boxes]
    found = []
    for b, one in zip(boxes, labels, strict=True):
        again = np.concatenate((b, b[: len(b) // 2]))
        moved = again + random.normal(0, random.choice([1, 4, 10]), again.shape).astype(np.float32)
        invented = random_boxes(random, random.integers(0, 6))
        corners = np.concatenate((np.sort(moved.reshape(-1, 2, 2), axis=1).reshape(-1, 4), invented))
        named = np.concatenate((one, one[: len(one) // 2], random.integers(0, 3, len(invented))))
        wrong = random.random(len(named)) < 0.15
        named = np.where(wrong, random.integers(0, 3, len(named)), named)
        scores = random.random(len(corners)).astype(np.float32)
        order = np.argsort(-scores)
        found.append(Detections(corners[order].astype(np.float32), scores[order], named[order]))
    return found, make_split(boxes, labels)


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_agrees_with_the_reference(seed):
    found, split = random_case(seed)
    result = average_precision(found, split, CLASSES)
    overlaps = np.linspace(0.5, 0.95, 10)
    for index, row in enumerate(result.per_class):
        values = [reference_ap(found, split, index, overlap) for overlap in overlaps]
        assert row.ap_50 == pytest.approx(values[0], abs=1e-6)
        assert row.ap_75 == pytest.approx(values[5], abs=1e-6)
        assert row.ap == pytest.approx(np.mean(values), abs=1e-6)
    assert result.map == pytest.approx(np.mean([row.ap for row in result.per_class]), abs=1e-6)


def test_average_precision_is_the_area_below_the_curve_that_the_report_draws():
    found, split = random_case(3)
    result = average_precision(found, split, CLASSES)
    assert result.by_recall.shape == (3, 101)
    np.testing.assert_allclose(result.by_recall.mean(1), [row.ap_50 for row in result.per_class], atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_the_envelope_of_the_zigzag_is_what_average_precision_is_the_area_of(seed):
    found, split = random_case(seed)
    envelopes = average_precision(found, split, CLASSES).by_recall
    for (recall, precision), envelope in zip(precision_by_recall(found, split, CLASSES), envelopes, strict=True):
        assert (np.diff(recall) >= 0).all()
        highest = [precision[recall >= point].max(initial=0) for point in np.linspace(0, 1, 101)]
        np.testing.assert_allclose(highest, envelope, atol=1e-9)


def test_only_a_hundred_detections_of_a_class_in_an_image_count_for_precision():
    box = np.array([[0, 0, 10, 10]], np.float32)
    split = make_split([box], [[0]])
    found = [Detections(box.repeat(150, 0), np.linspace(1, 0.5, 150, dtype=np.float32), np.zeros(150, np.int64))]
    (recall, precision), *_ = precision_by_recall(found, split, CLASSES)
    assert (len(recall), recall[0], recall[-1]) == (100, 1, 1)
    assert precision[-1] == pytest.approx(0.01)


def test_matches_name_the_object_of_the_image():
    boxes = np.array([(0, 0, 40, 40), (100, 100, 140, 140)], np.float32)
    split = make_split([boxes, boxes], [[0, 1], [1, 0]], [([], []), ([(150, 150, 190, 190)], [1])])
    detected = np.array([(100, 100, 140, 141), (0, 0, 40, 41), (60, 0, 90, 30), (160, 160, 180, 180)], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    found = [Detections(detected, scores, np.array([1, 0, 0, 1])), Detections(detected, scores, np.array([0, 1, 0, 1]))]
    first, second = matches(found, split, CLASSES)
    assert first.tolist() == [1, 0, -1, -1]
    assert second.tolist() == [1, 0, -1, IN_CROWD]
    assert [len(part) for part in matches([found[0].select(scores > 1)] * 2, split, CLASSES)] == [0, 0]


def test_the_intervals_hold_the_average_precision_and_vary_with_the_images():
    found, split = random_case(5, images=20)
    result = average_precision(found, split, CLASSES)
    intervals = precision_intervals(found, split, CLASSES, resamples=40)
    for name in ("map_50", "map"):
        low, high = intervals[name]
        assert low < getattr(result, name) < high
        assert 0.02 < high - low < 0.5


@pytest.mark.parametrize("seed", range(6))
def test_overlaps_agree_with_the_reference(seed):
    random = np.random.default_rng(seed)
    one, other = random_boxes(random, 7), random_boxes(random, 5)
    expected = [[iou(a, b) for b in other.astype(float)] for a in one.astype(float)]
    np.testing.assert_allclose(box_iou(one, other), expected, atol=1e-6)
    assert box_iou(one[:0], other).shape == (0, 5)


@pytest.mark.parametrize("seed", range(6))
def test_threshold_curves_count_what_the_reference_matches(seed):
    found, split = random_case(seed)
    curves = threshold_curves(found, split, CLASSES)
    objects = sum(len(one) for one in split.labels)
    for point in (0, 40, 100, 160):
        confidence = THRESHOLDS[point]
        right = total = 0
        for image, one in enumerate(found):
            for label in range(3):
                mine = (one.classes == label) & (one.scores >= confidence)
                order = np.argsort(-one.scores[mine], kind="stable")
                boxes = split.boxes[image][split.labels[image] == label].astype(float)
                right += sum(match(one.boxes[mine][order].astype(float), boxes, 0.5))
                total += int(mine.sum())
        assert curves.overall.precision[point] == pytest.approx(right / total if total else 1.0, abs=1e-6)
        assert curves.overall.recall[point] == pytest.approx(right / objects, abs=1e-6)


def test_a_perfect_detector_is_perfect_and_a_silent_one_finds_nothing():
    _, split = random_case(3)
    perfect = [
        Detections(b, np.full(len(b), 0.9, np.float32), one) for b, one in zip(split.boxes, split.labels, strict=True)
    ]
    assert average_precision(perfect, split, CLASSES).map == pytest.approx(1.0)
    curves = threshold_curves(perfect, split, CLASSES)
    at = dict(zip(curves.confidence, zip(curves.overall.precision, curves.overall.recall, strict=True), strict=True))
    assert at[0.9] == (1.0, 1.0)
    assert at[0.905] == (1.0, 0.0)
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    silent = [empty] * len(split)
    assert average_precision(silent, split, CLASSES).map == 0
    assert set(threshold_curves(silent, split, CLASSES).overall.recall) == {0.0}
    assert mistakes(silent, split, CLASSES, 0.5).missed == sum(len(one) for one in split.labels)


def test_a_class_without_a_test_object_does_not_count():
    split = make_split([[(0, 0, 10, 10)]], [[0]])
    found = [Detections(split.boxes[0], np.array([0.9], np.float32), np.array([0]))]
    result = average_precision(found, split, CLASSES)
    assert result.map == pytest.approx(1.0)
    assert [row.support for row in result.per_class] == [1, 0, 0]


def test_the_kinds_of_mistakes_are_distinguished():
    split = make_split([[(0, 0, 40, 40), (100, 100, 140, 140)]], [[0, 1]])
    boxes = [
        (0, 0, 40, 41),  # right
        (0, 0, 40, 39),  # found twice
        (100, 100, 140, 139),  # the object is of class 1
        (20, 0, 60, 40),  # a third of the object of its class
        (160, 160, 190, 190),  # nothing there
        (160, 0, 190, 30),  # below the threshold
    ]
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.55, 0.3], np.float32)
    found = [Detections(np.array(boxes, np.float32), scores, np.array([0, 0, 2, 0, 1, 1]))]
    wrong = mistakes(found, split, CLASSES, 0.5)
    assert wrong.kinds == {"wrong class": 1, "poor box": 1, "found twice": 1, "nothing there": 1}
    assert wrong.missed == 1
    np.testing.assert_array_equal(
        wrong.confusion,
        [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [2, 1, 0, 0]],
    )


def test_detections_in_a_crowd_of_their_class_are_neither_right_nor_wrong():
    boxes = [(110, 110, 130, 130), (0, 0, 40, 40), (130, 130, 150, 150), (140, 110, 160, 130)]
    scores = np.array([0.95, 0.9, 0.8, 0.7], np.float32)
    found = [Detections(np.array(boxes, np.float32), scores, np.array([0, 0, 0, 1]))] * 2
    things = [[(0, 0, 40, 40)]] * 2, [[0]] * 2
    crowd = ([(100, 100, 190, 190)], [0])
    split, without = make_split(*things, [crowd, crowd]), make_split(*things)

    assert average_precision(found, without, CLASSES).map_50 == pytest.approx(0.5)
    result = average_precision(found, split, CLASSES)
    assert result.map_50 == pytest.approx(1.0)
    assert [row.support for row in result.per_class] == [2, 0, 0]
    again = average_precision(found, split.without_pixels(np.array([1, 1])), CLASSES)
    assert again.map_50 == pytest.approx(1.0)

    curves = threshold_curves(found, split, CLASSES)
    at = curves.confidence.index(0.5)
    # The detection of class 1 is wrong: the crowd is of another class.
    assert (curves.overall.precision[at], curves.overall.recall[at]) == (0.5, 1.0)
    assert curves.per_class["a"].precision[at] == 1.0
    wrong = mistakes(found, split, CLASSES, 0.5)
    assert wrong.kinds == {"wrong class": 0, "poor box": 0, "found twice": 0, "nothing there": 2}
    assert wrong.missed == 0
    np.testing.assert_array_equal(wrong.confusion, [[2, 0, 0, 0], [0] * 4, [0] * 4, [0, 2, 0, 0]])
