"""How good a detector is: average precision, precision and recall by threshold, and the kinds of mistakes.

Overlap, matching and average precision are computed by faster-coco-eval as for COCO (Lin et al. 2014,
arXiv:1405.0312). A detection that matches no object and lies in a crowd of its class is ignored: it is neither right
nor wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as coco_mask

from service.tasks.detection.manifest import DetectorClassMetrics, ThresholdCurve, ThresholdCurves
from training.detection.data import DetectionSplit
from training.export.figures import Interval, bootstrap

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

THRESHOLDS = np.round(np.linspace(0.0, 1.0, 201), 3)
# At which average precision is sampled.
RECALLS = np.linspace(0.0, 1.0, 101)
# Each of them takes as long as an evaluation.
RESAMPLES = 200
# Below this overlap a box is not a poor detection of an object but a false one (TIDE, arXiv:2008.08115).
_NEAR = 0.1
Mistake = Literal["wrong class", "poor box", "found twice", "nothing there"]


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


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """Means over the classes, and the figures of each."""

    map_50: float
    map_75: float
    map: float
    per_class: tuple[DetectorClassMetrics, ...]


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
    counted = [(row.ap_50, row.ap_75, row.ap) for row in rows if row.support]
    ap_50, ap_75, ap = np.mean(counted, 0).tolist() if counted else [math.nan] * 3
    return AveragePrecision(ap_50, ap_75, ap, rows)


def precision_intervals(
    found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...], resamples: int | None = None
) -> dict[str, Interval]:
    """The 95 % intervals of `map_50` and `map`, over sets of images drawn from these."""

    def measure(chosen: IntArray) -> dict[str, float]:
        figures = average_precision([found[index] for index in chosen], split.without_pixels(chosen), classes)
        return {"map_50": figures.map_50, "map": figures.map}

    return bootstrap(measure, len(split), resamples or RESAMPLES)


def precision_by_recall(
    found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...]
) -> npt.NDArray[np.float64]:
    """The best precision at each of `RECALLS` or beyond, at an overlap of 0.5: shape (classes, 101); 0 if not reached.

    The mean of a class's row is its average precision.
    """
    precision = _run(found, split, classes).eval["precision"][0, :, :, 0, -1]  # of the first overlap: recalls, classes
    return precision.T.clip(0)


def threshold_curves(found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...]) -> ThresholdCurves:
    """Precision, recall and F1 at each confidence threshold, over all classes and of each, at an overlap of 0.5."""
    evaluation = _run(found, split, classes, overlap=0.5)
    hits, found = _counted(evaluation, found)
    scores = _joined([image.scores for image in found], np.float32)
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
    order = np.argsort(-scores, kind="stable")
    right = np.concatenate([[0], np.cumsum(hits[order])])
    # How many detections reach each threshold, in the precision that the service compares in.
    count = np.searchsorted(-scores[order], -THRESHOLDS.astype(np.float32), side="right")
    # If nothing is found, nothing found is wrong.
    precision = np.where(count > 0, right[count] / np.maximum(count, 1), 1.0)
    recall = right[count] / max(objects, 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    rounded = [tuple(np.round(values, 6).tolist()) for values in (precision, recall, f1)]
    return ThresholdCurve(precision=rounded[0], recall=rounded[1], f1=rounded[2])


@dataclass(frozen=True, slots=True)
class Mistakes:
    """The mistakes at one threshold.

    Attributes:
        confusion: true classes (rows) by predicted classes (columns), the last of each being background:
            shape (classes + 1, classes + 1).
        kinds: how many detections are mistakes of each kind.
        missed: how many objects have no detection of their class.
    """

    confusion: IntArray
    kinds: dict[Mistake, int]
    missed: int


def mistakes(
    found: Sequence[Detections], split: DetectionSplit, classes: tuple[str, ...], confidence: float
) -> Mistakes:
    """The mistakes among the detections with at least this confidence, at an overlap of 0.5."""
    kept = [image.select(image.scores >= confidence) for image in found]
    right, kept = _counted(_run(kept, split, classes, overlap=0.5), kept)
    matched, _ = _pairs(_run(kept, split, classes, overlap=0.5, use_classes=False))
    predicted, truth = _joined([image.classes for image in kept], np.int64), _joined(split.labels, np.int64)

    background = len(classes)
    confusion = np.zeros((background + 1, background + 1), dtype=np.int64)
    detections, things = list(matched), list(matched.values())
    np.add.at(confusion, (truth[things], predicted[detections]), 1)
    confusion[background] += np.bincount(np.delete(predicted, detections), minlength=len(confusion))
    confusion[:, background] += np.bincount(np.delete(truth, things), minlength=len(confusion))

    kinds: dict[Mistake, int] = {"wrong class": 0, "poor box": 0, "found twice": 0, "nothing there": 0}
    hits = iter(right)
    for image, boxes, labels in zip(kept, split.boxes, split.labels, strict=True):
        for overlaps, label in zip(box_iou(image.boxes, boxes), image.classes, strict=True):
            if not next(hits):
                kinds[_kind(overlaps, labels == label)] += 1
    return Mistakes(confusion, kinds, missed=len(truth) - int(right.sum()))


def _kind(overlaps: npt.NDArray[np.float64], same: BoolArray) -> Mistake:
    """Why a detection is wrong, by its overlaps with the objects of its class (`same`) and of others."""
    if overlaps[same].max(initial=0) >= 0.5:
        return "found twice"
    if overlaps[~same].max(initial=0) >= 0.5:
        return "wrong class"
    return "poor box" if overlaps[same].max(initial=0) >= _NEAR else "nothing there"


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
    coco = COCO(
        {
            "images": [
                {"id": image, "height": frame.height, "width": frame.width}
                for image, frame in enumerate(split.letterboxes)
            ],
            "categories": [{"id": index, "name": label} for index, label in enumerate(classes)],
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(truth, start=1)],
        }
    )
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


def _pairs(evaluation: Any) -> tuple[dict[int, int], list[int]]:
    """The object that each detection was matched with, both counted from 0, and the detections in crowds."""
    pairs, in_crowds = {}, []
    for key in evaluation.eval["matched"]:
        detection, thing = (int(number) for number in key.split("_", 1))
        if evaluation.cocoGt.anns[thing]["iscrowd"]:
            in_crowds.append(detection - 1)
        else:
            pairs[detection - 1] = thing - 1
    return pairs, in_crowds


def _counted(evaluation: Any, found: Sequence[Detections]) -> tuple[BoolArray, list[Detections]]:
    """Which detections match an object, and the detections themselves, without those that are ignored in crowds."""
    pairs, in_crowds = _pairs(evaluation)
    sizes = [len(image.scores) for image in found]
    hits, counted = np.zeros(sum(sizes), np.bool_), np.ones(sum(sizes), np.bool_)
    hits[list(pairs)] = True
    counted[in_crowds] = False
    masks = np.split(counted, np.cumsum(sizes)[:-1])
    return hits[counted], [image.select(mask) for image, mask in zip(found, masks, strict=False)]
