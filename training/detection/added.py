"""Captured images with boxes in the training split."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from quartet.captured.export import scaled
from quartet.captured.items import BOXES, Captured
from service.errors import QuartetError
from service.tasks.detection.letterbox import Letterbox, letterbox
from service.tasks.images import EncodedImage
from training.data.added import choose_new, content_of
from training.data.lazy import Pixels, extended
from training.detection.data import Boxes, DetectionData, DetectionSplit

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
# The letterboxed pixels, how the image lies in them, its name, and its boxes with their labels.
_Image = tuple[Pixels, Letterbox, str, Boxes]


def with_captures(data: DetectionData, items: Sequence[Captured]) -> DetectionData:
    """The data with captured images in its training split, unless a split has the same pixels."""
    usable: dict[bytes, _Image] = {}
    for each in items:
        if each.kind == BOXES and all(box["label"] in data.classes for box in each.truth):
            try:
                image = _read(data, each)
            except QuartetError:  # it was decoded once; the counts say that it is left out now
                continue
            usable[content_of(image[0].tobytes())] = image
    splits = (data.train, data.validation, data.test)
    known = (content_of(np.ascontiguousarray(pixels).tobytes()) for split in splits for pixels in split.images)
    new = choose_new(data.fingerprint, known, usable, len(items), data.inspection)
    if not new.items:
        return replace(data, added=new.added)
    return replace(data, train=_joined(data.train, new.items), fingerprint=new.fingerprint, added=new.added)


def _read(data: DetectionData, each: Captured) -> _Image:
    pixels, geometry = letterbox(EncodedImage.open(each.item.content), *data.size)
    # The truth is in pixels of the image as it was sent, which may have been larger than what was kept.
    boxes = scaled(each, each.truth)
    corners = np.array([[box[name] for name in _CORNERS] for box in boxes], np.float32).reshape(-1, 4)
    limits = np.array([geometry.width, geometry.height] * 2, np.float32)
    labels = np.array([data.classes.index(box["label"]) for box in boxes], np.int64)
    return pixels, geometry, f"captured item {each.item.number}", (corners.clip(0, limits), labels)


def _joined(train: DetectionSplit, more: Sequence[_Image]) -> DetectionSplit:
    pixels, letterboxes, names, boxes = zip(*more, strict=True)
    nothing = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    return DetectionSplit(
        extended(train.images, np.stack(pixels)),
        (*train.boxes, *(corners for corners, _ in boxes)),
        (*train.labels, *(labels for _, labels in boxes)),
        (*train.letterboxes, *letterboxes),
        (*train.names, *names),
        (*train.crowds, *(nothing for _ in more)),
    )
