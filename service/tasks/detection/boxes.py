"""Boxes in the pixels of the original image, from the model's outputs for its letterboxed copy."""

from collections import Counter
from collections.abc import Collection
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from service.tasks.detection.letterbox import Letterbox


class Box(TypedDict):
    """A detected object, in pixels of the original image."""

    label: str
    index: int
    score: float
    x_min: float
    y_min: float
    x_max: float
    y_max: float


def detections(
    answer: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]],
    geometry: Letterbox,
    labels: tuple[str, ...],
    *,
    confidence: float,
    classes: Collection[int] | None = None,
    most: int,
) -> list[Box]:
    """The detections of an image, the best first.

    Args:
        answer: boxes (n, 4) in the frame's pixels, scores (n,) and classes (n,), the best first.
        geometry: of the image in the frame.
        labels: of the model.
        confidence: the lowest score.
        classes: indices of labels; None for all.
        most: the most detections.
    """
    boxes, scores, indices = answer
    keep = (scores >= confidence) & (scores > 0)
    if classes is not None:
        keep &= np.isin(indices, list(classes))
    chosen = np.flatnonzero(keep)[:most]
    corners = geometry.to_original(boxes[chosen]).astype(float).round(2).tolist()
    return [
        {
            "label": labels[index],
            "index": index,
            "score": round(score, 4),
            "x_min": x_min,
            "y_min": y_min,
            "x_max": x_max,
            "y_max": y_max,
        }
        for (x_min, y_min, x_max, y_max), score, index in zip(
            corners, scores[chosen].tolist(), indices[chosen].tolist(), strict=True
        )
    ]


def count_labels(boxes: list[Box]) -> dict[str, int]:
    """The number of boxes of each label, the most frequent first."""
    return dict(Counter(box["label"] for box in boxes).most_common())
