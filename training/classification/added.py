"""Captured images in the training split."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from quartet.captured.items import CLASSES, Captured
from service.errors import QuartetError
from service.tasks.cards import ImageInput
from service.tasks.images import EncodedImage, read_pixels
from training.data.added import choose_new, content_of
from training.data.images import ImageData, ImageSplit
from training.data.lazy import Pixels, extended


def with_captures(data: ImageData, items: Sequence[Captured]) -> ImageData:
    """The data with captured images in its training split, unless a split has the same pixels."""
    height, width, channels = data.shape
    wanted = ImageInput(height=height, width=width, channels=1 if channels == 1 else 3)
    usable: dict[bytes, tuple[Pixels, int]] = {}
    for each in items:
        if each.kind == CLASSES and each.item.media_type.startswith("image/") and each.truth in data.classes:
            try:
                pixels = read_pixels(EncodedImage.open(each.item.content), wanted)
            except QuartetError:  # it was decoded once; the counts say that it is left out now
                continue
            usable[content_of(pixels.tobytes())] = pixels, data.classes.index(each.truth)
    splits = (data.train, data.validation, data.test)
    known = (content_of(np.ascontiguousarray(pixels).tobytes()) for split in splits for pixels in split.images)
    new = choose_new(data.fingerprint, known, usable, len(items), data.inspection)
    if not new.items:
        return replace(data, added=new.added)
    more, labels = zip(*new.items, strict=True)
    train = ImageSplit(
        extended(data.train.images, np.stack(more)),
        np.concatenate((data.train.labels, np.array(labels, np.int64))),
    )
    return replace(data, train=train, fingerprint=new.fingerprint, added=new.added)
