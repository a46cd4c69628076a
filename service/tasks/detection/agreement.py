"""Whether two versions of a detector agree: every box of one has its partner among those of the other."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.tasks.agreement import Incomparable, p_value, require_equal
from service.tasks.base import Agreement, Comparison, Measure, Outcome, Row
from service.tasks.detection.boxes import describe, detections
from service.tasks.detection.letterbox import Boxes, Letterbox
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.familiarity import with_familiarity

# The overlap of the usual figures, such as AP at 0.5.
_OVERLAP = 0.5
# The most boxes that are compared; an answer holds no more by default.
_MOST = 300


def between(default: DetectorManifest, candidate: DetectorManifest) -> Measure:
    """See `service.tasks.base.Agreement`.

    Each version has its own threshold, that of its best F1. Partners have the same label and an IoU of at least 0.5;
    the default's boxes choose in turn, the best first. The difference is 1 - F1 of the candidate's boxes if the
    default's are taken for the truth: 0 if all have partners, 1 if none has.
    """
    require_equal("frames", default.image.shape, candidate.image.shape)
    if not set(default.labels) & set(candidate.labels):
        raise Incomparable("The versions cannot be compared: they have no label in common.")
    threshold, other_threshold = default.default_confidence, candidate.default_confidence

    def compare(ours: Row, theirs: Row) -> Comparison:
        boxes, labels = _above(ours, threshold, default.labels)
        others, other_labels = _above(theirs, other_threshold, candidate.labels)
        together = len(boxes) + len(others)
        pairs = _pairs(boxes, others, labels, other_labels) if len(boxes) and len(others) else 0
        common = Counter(labels).most_common(1)
        return Comparison(
            2 * pairs == together, 1 - 2 * pairs / together if together else 0.0, common[0][0] if common else None
        )

    return Measure(
        "every box has a partner of the same label with an IoU of at least 0.5; the difference is 1 - F1", compare
    )


def outcome(manifest: DetectorManifest, row: Row) -> Outcome:
    """See `service.tasks.base.Agreement`. The label is that of most boxes."""
    _, labels = _above(row, manifest.default_confidence, manifest.labels)
    common = Counter(labels).most_common(1)
    return Outcome(common[0][0] if common else None, p_value(manifest, row))


def result(manifest: DetectorManifest, frame: Any, row: Row) -> dict[str, Any]:
    """See `service.tasks.base.Agreement`. The image is the frame."""
    height, width = frame.shape[:2]
    geometry = Letterbox.of(height, width, height, width)
    found, scores, indices, *more = row
    boxes = detections(
        (found, scores, indices), geometry, manifest.labels, confidence=manifest.default_confidence, most=_MOST
    )
    return with_familiarity(describe(None, geometry, boxes), more)


def _above(row: Row, threshold: float, labels: Sequence[str]) -> tuple[Boxes, list[str]]:
    """The boxes that count, the best first, and their labels."""
    boxes, scores, indices, *_ = row
    chosen = np.flatnonzero((scores >= threshold) & (scores > 0))[:_MOST]
    return boxes[chosen], [labels[index] for index in indices[chosen].tolist()]


def _pairs(boxes: Boxes, others: Boxes, labels: Sequence[str], other_labels: Sequence[str]) -> int:
    """How many boxes find a partner; both lists hold at least one."""
    overlaps = iou(boxes, others)
    overlaps[np.array(labels)[:, None] != np.array(other_labels)] = 0.0
    pairs = 0
    for row in overlaps:
        best = int(row.argmax())
        if row[best] >= _OVERLAP:
            pairs += 1
            overlaps[:, best] = 0.0
    return pairs


def iou(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of boxes (x_min, y_min, x_max, y_max), shape (boxes, others)."""
    one, other = boxes[:, None].astype(np.float64), others[None].astype(np.float64)
    sides = (np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])).clip(0)
    shared = sides.prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).clip(0).prod(-1) for each in (one, other)]
    union = areas[0] + areas[1] - shared
    overlaps: npt.NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlaps


AGREEMENT = Agreement(between, outcome, result)
