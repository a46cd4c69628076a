"""How YOLO networks list boxes: told by the shape and the values of an output."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Head = Literal["yolov8", "yolov5", "end2end"]
Rows = npt.NDArray[np.float32]

# A sigmoid in half precision may exceed 1 by this.
_ROUNDING = 1e-3
# No decoded box is so many times larger than the picture.
_FAR = 100
_COLUMNS: Mapping[Head, str] = {"yolov8": "4 + labels", "yolov5": "5 + labels", "end2end": "6"}


class Layout(NamedTuple):
    """Where the boxes are in an output of shape (batch, boxes, columns), or (batch, columns, boxes).

    Attributes:
        head: the columns. `yolov8`: centre x and y, width, height, and a score for each label. `yolov5`: the same
            with a score of the box before those of the labels, which it multiplies. `end2end`: x_min, y_min, x_max,
            y_max, score, label; what overlaps is suppressed already. All in pixels of the input.
        columns_first: the shape is (batch, columns, boxes).
    """

    head: Head
    columns_first: bool

    def __str__(self) -> str:
        return self.described(_COLUMNS[self.head])

    def described(self, columns: object) -> str:
        """The layout for people, given its columns."""
        axes = f"{columns}, boxes" if self.columns_first else f"boxes, {columns}"
        return f"{self.head} [batch, {axes}]"

    def rows(self, output: npt.NDArray[np.floating]) -> Rows:
        """The boxes of all images in an output, shape (boxes, columns)."""
        rows = output.swapaxes(1, 2) if self.columns_first else output
        return rows.reshape(-1, rows.shape[2]).astype(np.float32)

    def boxes(self, output: npt.NDArray[np.floating]) -> int:
        """How many boxes an output lists for an image."""
        return int(output.shape[2 if self.columns_first else 1])

    def best_score(self, output: npt.NDArray[np.floating]) -> float:
        """The highest score of a label in an output."""
        rows = self.rows(output)
        if self.head == "yolov8":
            return float(rows[:, 4:].max())
        if self.head == "yolov5":
            return float((rows[:, 4:5] * rows[:, 5:]).max())
        return float(rows[:, 4].max())


class Ambiguous(ValueError):
    """An output may have several layouts; the message names them."""


def layout_of(output: npt.NDArray[np.floating], size: tuple[int, int], labels: int, head: Head | None = None) -> Layout:
    """The layout that an output has, by its shape and its values.

    Args:
        output: the network's answers to real pictures, if there are any.
        size: height and width of the network's input in pixels.
        labels: their number.
        head: accept this one only.

    Raises:
        ValueError: it has none; the message says why.
        Ambiguous: it may have several.
    """
    shape, counts = output.shape, {"yolov8": 4 + labels, "yolov5": 5 + labels, "end2end": 6}
    usual = [Layout("yolov8", columns_first=True), Layout("yolov5", False), Layout("end2end", False)]
    # The other order would take a missing label for another head, so it needs to be asked for.
    known = [Layout(head, first) for first in (True, False)] if head else usual
    possible = [
        layout for layout in known if len(shape) == 3 and shape[1 if layout.columns_first else 2] == counts[layout.head]
    ]
    if not possible:
        stated = ", ".join(layout.described(counts[layout.head]) for layout in known)
        axes = ", ".join(map(str, ("batch", *shape[1:])))
        raise ValueError(f"its shape [{axes}] is none of {stated}")
    objections = {layout: _objection(layout, output, size, labels) for layout in possible}
    fitting = [layout for layout, reason in objections.items() if reason is None]
    if not fitting:
        raise ValueError("; ".join(f"read as {layout}, {reason}" for layout, reason in objections.items()))
    # Scores are no whole numbers in all boxes, indices of labels are.
    certain = [layout for layout in fitting if layout.head == "end2end" and _has_indices(layout.rows(output))]
    if len(fitting) > 1 and not certain:
        raise Ambiguous(" or ".join(map(str, fitting)))
    return (certain or fitting)[0]


def _objection(layout: Layout, output: npt.NDArray[np.floating], size: tuple[int, int], labels: int) -> str | None:
    """Why the values of an output cannot have this layout; None if they can."""
    rows = layout.rows(output)
    if not np.isfinite(rows).all():
        return "it has values that are not finite"
    boxes, scores = rows[:, :4], rows[:, 4:]
    if layout.head == "end2end":
        scores, indices = rows[:, 4:5], rows[:, 5]
        if (indices != indices.round()).any() or indices.min() < 0 or indices.max() >= labels:
            return f"its last column is no index of {labels} labels"
        if (boxes[:, 2:] < boxes[:, :2] - 1).any():
            return "its first four columns are no corners of boxes"
    elif (boxes[:, 2:] < 0).any():
        return "widths and heights of its boxes are negative"
    if scores.min() < -_ROUNDING or scores.max() > 1 + _ROUNDING:
        return f"its scores lie between {scores.min():.3g} and {scores.max():.3g}, not between 0 and 1"
    farthest = float(np.abs(boxes).max())
    if boxes.any() and farthest <= 2:
        return "its boxes are shares of the picture, not pixels"
    if farthest > _FAR * max(size):
        return f"its boxes reach {farthest:.3g} pixels, with pictures of {size[1]} x {size[0]}"
    return None


def _has_indices(rows: Rows) -> bool:
    """Whether the last of 6 columns tells labels apart that no score could."""
    return bool(rows[:, 4].any() and (rows[:, 5] == rows[:, 5].round()).all() and np.ptp(rows[:, 5]))
