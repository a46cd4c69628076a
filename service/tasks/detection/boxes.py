"""Boxes in the pixels of the original image, from the model's outputs for its letterboxed copy."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from service.tasks.detection.letterbox import Letterbox

# As `DetectedBox` describes it.
Box = dict[str, Any]


class DetectedBox(BaseModel):
    """An object, in pixels of the image as it was sent, after EXIF rotation; the origin is the top left corner."""

    label: str = Field(examples=["RBC"])
    index: int = Field(examples=[0], description="the label's index among the model's labels")
    score: float = Field(examples=[0.88])
    x_min: float = Field(examples=[12.0])
    y_min: float = Field(examples=[30.5])
    x_max: float = Field(examples=[110.2])
    y_max: float = Field(examples=[131.0])


def detections(
    answer: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]],
    geometry: Letterbox,
    labels: tuple[str, ...],
    *,
    confidence: float,
    classes: Collection[int] | None = None,
    most: int,
) -> list[Box]:
    """The detections of an image with a score of at least `confidence`, the best first.

    The answer holds boxes (n, 4) in the frame's pixels, scores (n,) and classes (n,), the best first. The classes that
    count are indices of labels; None for all.
    """
    boxes, scores, indices = answer
    keep = (scores >= confidence) & (scores > 0)
    if classes is not None:
        keep &= np.isin(indices, list(classes))
    chosen = np.flatnonzero(keep)[:most]
    corners = geometry.to_original(boxes[chosen]).astype(float).round(2).tolist()
    rows = zip(corners, scores[chosen].tolist(), indices[chosen].tolist(), strict=True)
    return [
        {
            "label": labels[index],
            "index": index,
            "score": round(score, 4),
            **dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True)),
        }
        for box, score, index in rows
    ]


def describe(name: str | None, geometry: Letterbox, boxes: Sequence[Box]) -> dict[str, Any]:
    """The result for an image, as `ImageDetections` has it."""
    return {
        "name": name,
        "width": geometry.width,
        "height": geometry.height,
        "counts": dict(Counter(box["label"] for box in boxes).most_common()),
        "boxes": boxes,
    }
