"""How good a detector is: average precision, precision and recall by threshold, and the kinds of mistakes.

Overlap, matching and average precision are computed by faster-coco-eval as for COCO (Lin et al. 2014,
arXiv:1405.0312). A detection that matches no object and lies in a crowd of its class is ignored: it is neither right
nor wrong.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as coco_mask

from service.tasks.detection.letterbox import Letterbox
from service.tasks.detection.manifest import DetectorClassMetrics, ThresholdCurve, ThresholdCurves
from training.detection.data import DetectionSplit, FloatArray, IntArray
from training.export.figures import Interval, bootstrap

BoolArray = npt.NDArray[np.bool_]

THRESHOLDS = np.round(np.linspace(0.0, 1.0, 201), 3)
# Of the intervals; each takes as long as an evaluation.
RESAMPLES = 200
EVALUATION_BATCH = 8
# Below this overlap a box is not a poor detection of an object but a false one (TIDE, arXiv:2008.08115).
_NEAR = 0.1
# In the place of an object that a detection matches.
IN_CROWD = -2
# Detections of a class in an image that average precision counts.
_MOST = 100


@dataclass(frozen=True, slots=True)
class Detections:
    """The detections in one image, the best first.

    Attributes:
        boxes: x_min, y_min, x_max, y_max in pixels of the original, shape (k, 4).
        scores: shape (k,).
        classes: int64, shape (k,).
    """

    boxes: FloatArray
    scores: FloatArray
    classes: IntArray

    def select(self, keep: BoolArray) -> "Detections":
        """Those where `keep`, shape (k,), is true."""
        return Detections(self.boxes[keep], self.scores[keep], self.classes[keep])


def in_originals(frames: Sequence[Letterbox], outputs: Sequence[npt.NDArray[Any]]) -> list[Detections]:
    """The detections in some images, in pixels of the originals.

    Args:
        frames: how each original is placed in its image.
        outputs: of the graph: boxes, scores, classes.
    """
    found = []
    for frame, boxes, scores, classes in zip(frames, *outputs, strict=True):
        real = scores > 0
        found.append(Detections(frame.to_original(boxes[real]), scores[real], classes[real]))
    return found


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """Means over the classes, and the figures of each.

    `by_recall`, shape (classes, 101), is the best precision at each hundredth of recall or beyond, at an overlap of
    0.5; 0 if not reached.
    """

    map_50: float
    map_75: float
    map: float
    per_class: tuple[DetectorClassMetrics, ...]
    by_recall: npt.NDArray[np.float64]


def average_precision(found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...]) -> AveragePrecision:
    """Average precision at overlaps of 0.5 to 0.95, with at most 100 detections per image."""
    precision = _run(found, split, classes).eval["precision"][:, :, :, 0, -1]  # overlaps, recalls, classes
    support = np.bincount(_joined(split.labels, np.int64), minlength=len(classes))
    # A class without test objects says nothing about the detector; a split without any is not a number.
    values = np.where(support, precision.mean(1).clip(0), 0.0)
    rows = tuple(
        DetectorClassMetrics(label=label, ap_50=column[0], ap_75=column[5], ap=column.mean(), support=int(count))
        for label, column, count in zip(classes, values.T, support, strict=True)
    )
    counted = [(row.ap_50, row.ap_75, row.ap) for row in rows if row.support] or [(math.nan,) * 3]
    ap_50, ap_75, ap = np.mean(counted, 0).tolist()
    return AveragePrecision(ap_50, ap_75, ap, rows, precision[0].T.clip(0))


def precision_by_recall(
    found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...]
) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Recall and precision of each class after each of its detections, the best first, at an overlap of 0.5.

    Average precision is the area under the highest precision from each recall on. At most 100 detections of a class
    count in an image, as there.
    """
    matched, found = _outside_crowds(found, split, classes)
    hits, scores = matched >= 0, _joined([image.scores for image in found], np.float32)
    labels, truth = _joined([image.classes for image in found], np.int64), _joined(split.labels, np.int64)
    counted = _joined([_ranks(image.classes) for image in found], np.int64) < _MOST
    curves = []
    for index in range(len(classes)):
        own = np.flatnonzero(counted & (labels == index))
        right = hits[own[np.argsort(-scores[own], kind="stable")]].cumsum()
        curves.append((right / max((truth == index).sum(), 1), right / np.arange(1, len(own) + 1)))
    return curves


def matches(found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...]) -> list[IntArray]:
    """The object of its image that each detection matches at an overlap of 0.5; negative for none.

    -1 is a false detection, `IN_CROWD` one that is neither right nor wrong.
    """
    matched = _matched(found, split, classes)
    first, parts = 0, []
    ends = np.cumsum([len(one.scores) for one in found])
    for part, labels in zip(np.split(matched, ends[:-1]), split.labels, strict=True):
        parts.append(np.where(part >= 0, part - first, part))
        first += len(labels)
    return parts


def _ranks(labels: IntArray) -> IntArray:
    """The place of each label among those that are equal to it, from 0."""
    return np.array([int((labels[:place] == label).sum()) for place, label in enumerate(labels)], np.int64)


def precision_intervals(
    found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...], resamples: int | None = None
) -> dict[str, Interval]:
    """The 95 % intervals of `map_50` and `map`, over sets of images drawn from these."""

    def measure(chosen: IntArray) -> dict[str, float]:
        figures = average_precision([found[index] for index in chosen], split.without_pixels(chosen), classes)
        return {"map_50": figures.map_50, "map": figures.map}

    return bootstrap(measure, len(split), resamples or RESAMPLES)


def threshold_curves(found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...]) -> ThresholdCurves:
    """Precision, recall and F1 at each confidence threshold, over all classes and of each, at an overlap of 0.5."""
    matched, found = _outside_crowds(found, split, classes)
    hits, scores = matched >= 0, _joined([image.scores for image in found], np.float32)
    labels, truth = _joined([image.classes for image in found], np.int64), _joined(split.labels, np.int64)
    return ThresholdCurves(
        confidence=tuple(THRESHOLDS.tolist()),
        overall=_curve(scores, hits, len(truth)),
        per_class={
            label: _curve(scores[labels == index], hits[labels == index], int((truth == index).sum()))
            for index, label in enumerate(classes)
        },
    )


def _curve(scores: FloatArray, hits: BoolArray, objects: int) -> ThresholdCurve:
    # In the precision that the service compares in.
    reached = scores[:, None] >= THRESHOLDS.astype(np.float32)
    count, right = reached.sum(0), reached[hits].sum(0)
    # If nothing is found, nothing found is wrong.
    precision = np.where(count > 0, right / np.maximum(count, 1), 1.0)
    recall = right / max(objects, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    rounded = [tuple(np.round(values, 6).tolist()) for values in (precision, recall, f1)]
    return ThresholdCurve(precision=rounded[0], recall=rounded[1], f1=rounded[2])


@dataclass(frozen=True, slots=True)
class Mistakes:
    """The mistakes at one threshold.

    Attributes:
        confusion: true classes (rows) by predicted classes (columns), the last of each being background:
            shape (classes + 1, classes + 1).
        kinds: how many detections are a "wrong class", a "poor box", "found twice" or "nothing there".
        missed: how many objects have no detection of their class.
    """

    confusion: IntArray
    kinds: dict[str, int]
    missed: int


def mistakes(
    found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...], confidence: float
) -> Mistakes:
    """The mistakes among the detections with at least this confidence, at an overlap of 0.5."""
    matched, kept = _outside_crowds([image.select(image.scores >= confidence) for image in found], split, classes)
    predicted, truth = _joined([image.classes for image in kept], np.int64), _joined(split.labels, np.int64)

    of_any_class = _matched(kept, split, classes, use_classes=False)
    detections = np.flatnonzero(of_any_class >= 0)
    objects = of_any_class[detections]
    confusion = np.zeros((len(classes) + 1, len(classes) + 1), dtype=np.int64)
    np.add.at(confusion, (truth[objects], predicted[detections]), 1)
    confusion[-1] += np.bincount(np.delete(predicted, detections), minlength=len(confusion))
    confusion[:, -1] += np.bincount(np.delete(truth, objects), minlength=len(confusion))

    reasons: list[str] = []
    for image, boxes, labels in zip(kept, split.boxes, split.labels, strict=True):
        overlaps, same = box_iou(image.boxes, boxes), image.classes[:, None] == labels
        own, other = ((overlaps * part).max(1, initial=0) for part in (same, ~same))
        reasons += np.select(
            [own >= 0.5, other >= 0.5, own >= _NEAR], ["found twice", "wrong class", "poor box"], "nothing there"
        ).tolist()
    counts = Counter(reason for reason, match in zip(reasons, matched, strict=True) if match < 0)
    kinds = {kind: counts[kind] for kind in ("wrong class", "poor box", "found twice", "nothing there")}
    return Mistakes(confusion, kinds, missed=len(truth) - int((matched >= 0).sum()))


def box_iou(boxes: FloatArray, others: FloatArray) -> npt.NDArray[np.float64]:
    """Overlaps of boxes x_min, y_min, x_max, y_max: shapes (n, 4) and (m, 4) to (n, m)."""
    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    overlaps: npt.NDArray[np.float64] = coco_mask.iou(_xywh(boxes), _xywh(others), [0] * len(others))
    return overlaps


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate([*parts, np.empty(0, dtype)])


def _xywh(boxes: FloatArray) -> npt.NDArray[np.float64]:
    wide = boxes.astype(np.float64)
    return np.concatenate((wide[:, :2], wide[:, 2:] - wide[:, :2]), 1)


def _run(
    found: Sequence[Detections],
    split: DetectionSplit,
    classes: tuple[str, ...],
    overlap: float | None = None,
    use_classes: bool = True,
) -> Any:
    """An evaluation that has run, at COCO's overlaps or at one.

    Ids count from 1, in the order of the images; those of crowds follow those of objects.
    """
    objects = [(*parts, 0) for parts in zip(range(len(split)), split.boxes, split.labels, strict=True)]
    crowds = [(image, *parts, 1) for image, parts in enumerate(split.crowds)]
    truth = [
        {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
        for image, boxes, labels, crowd in objects + crowds
        for box, label in zip(_xywh(boxes).tolist(), labels.tolist(), strict=True)
    ]
    predicted = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for image, one in enumerate(found)
        for box, score, label in zip(_xywh(one.boxes).tolist(), one.scores.tolist(), one.classes.tolist(), strict=True)
    ]
    frames = enumerate(split.letterboxes)
    document = {
        "images": [{"id": image, "height": frame.height, "width": frame.width} for image, frame in frames],
        "categories": [{"id": index, "name": label} for index, label in enumerate(classes)],
        "annotations": [{"id": number, **annotation} for number, annotation in enumerate(truth, start=1)],
    }
    coco = COCO(document)
    evaluation = COCOeval_faster(coco, coco.loadRes(predicted), "bbox", print_function=lambda *_: None, extra_calc=True)
    evaluation.params.imgIds = list(range(len(split)))
    evaluation.params.catIds = list(range(len(classes)))
    evaluation.params.useCats = int(use_classes)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    if overlap is not None:
        evaluation.params.iouThrs = np.array([overlap])
        evaluation.params.maxDets = [max([1, *(len(one.scores) for one in found)])]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _matched(
    found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...], use_classes: bool = True
) -> IntArray:
    """The object that each detection matches at an overlap of 0.5, counted from 0; -1 for none."""
    evaluation = _run(found, split, classes, overlap=0.5, use_classes=use_classes)
    ids = np.array([one.get("gt_id", 0) for one in evaluation.cocoDt.anns.values()], np.int64)
    return np.where(ids <= sum(map(len, split.labels)), ids - 1, IN_CROWD)


def _outside_crowds(
    found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...]
) -> tuple[IntArray, list[Detections]]:
    """The detections that are not ignored in crowds, and what `_matched` says of each."""
    matched = _matched(found, split, classes)
    counted = matched != IN_CROWD
    masks = np.split(counted, np.cumsum([len(image.scores) for image in found])[:-1])
    return matched[counted], [image.select(mask) for image, mask in zip(found, masks, strict=False)]
