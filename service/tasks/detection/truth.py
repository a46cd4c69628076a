"""The true boxes of an image, and how well detections fit them."""

from typing import Any

import numpy as np

from service.errors import truncate
from service.tasks.base import Score, Truth
from service.tasks.detection.agreement import iou
from service.tasks.truth import read_label, read_number

_MOST_BOXES = 1000
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_OVERLAP = 0.5


def _read_boxes(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > _MOST_BOXES:
        raise ValueError(f"the truth must be a list of at most {_MOST_BOXES} boxes")
    return [_read_box(box) for box in value]


def _read_box(box: Any) -> dict[str, Any]:
    if not isinstance(box, dict) or box.keys() != {"label", *_CORNERS}:
        raise ValueError(f"a box must have the fields label, {', '.join(_CORNERS)} and no others")
    corners = {name: read_number(box[name]) for name in _CORNERS}
    if corners["x_min"] >= corners["x_max"] or corners["y_min"] >= corners["y_max"]:
        raise ValueError(f"a box must have x_min < x_max and y_min < y_max, not {truncate(str(corners))}")
    return {"label": read_label(box["label"]), **corners}


def _boxes(result: dict[str, Any]) -> list[list[Any]]:
    return [[box["label"], *(box[name] for name in _CORNERS)] for box in result["boxes"][:_MOST_BOXES]]


def _f1(gist: list[list[Any]], truth: list[dict[str, Any]]) -> Score:
    """Boxes of the same label with an IoU of at least 0.5 are pairs; the best boxes choose first."""
    together = len(gist) + len(truth)
    if not gist or not truth:
        # An image without objects in which none was found is right.
        return Score(0.0, float(together)) if together else Score(1.0, 1.0)
    found = np.array([box[1:] for box in gist], np.float32)
    real = np.array([[box[name] for name in _CORNERS] for box in truth], np.float32)
    overlaps = iou(found, real)
    overlaps[np.array([box[0] for box in gist])[:, None] != np.array([box["label"] for box in truth])] = 0.0
    pairs = 0
    for row in overlaps:
        best = int(row.argmax())
        if row[best] >= _OVERLAP:
            pairs += 1
            overlaps[:, best] = 0.0
    return Score(2.0 * pairs, float(together))


def _as_truth(gist: list[list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(("label", *_CORNERS), box, strict=True)) for box in gist]


BOXES = Truth("F1 at an IoU of 0.5", _read_boxes, _boxes, _f1, confirmed=_as_truth)
