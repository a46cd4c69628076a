"""Boxes in an image's own pixels, from what the model answers for its letterboxed copy."""

from collections import Counter
from collections.abc import Collection
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from service.tasks.detection.letterbox import Letterbox


class Box(TypedDict):
    """A found object: its label and that label's index, its score and its corners in pixels."""

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
    """What was found in an image, the best first.

    Args:
        answer: boxes (n, 4) in the frame's pixels, scores (n,) and classes (n,), the best first.
        geometry: how the image lies in the frame.
        labels: the model's.
        confidence: the least score that counts.
        classes: the indices of the labels that count; None for all.
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
    """How many of each label, the commonest first."""
    return dict(Counter(box["label"] for box in boxes).most_common())
