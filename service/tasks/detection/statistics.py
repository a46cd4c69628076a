"""What is counted of a detector: the look of the images, and number, labels and scores of the boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.tasks.base import Statistic, Statistics, Values
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.statistics import (
    IMAGE_STATISTICS,
    label_statistics,
    measure_images,
    measure_typicality,
    typicality_statistics,
)


def of(manifest: DetectorManifest) -> tuple[Statistic, ...]:
    """See `service.tasks.base.Statistics`."""
    boxes = Statistic("answer", "boxes")
    return (*IMAGE_STATISTICS, boxes, *label_statistics(manifest.labels), *typicality_statistics(manifest))


def measure(manifest: DetectorManifest, images: Sequence[Any], rows: Sequence[Any]) -> list[Values]:
    """See `service.tasks.base.Statistics`.

    Boxes count from the default confidence on. The labels of an image's boxes share its weight; its confidence is their
    mean score. Padding counts as a part of the image, as it does in validation.
    """
    scores, classes = (np.stack([row[index] for row in rows]) for index in (1, 2))
    kept = (scores >= manifest.default_confidence) & (scores > 0)
    boxes = kept.sum(1).astype(np.float64)
    labels = Values(classes[kept].astype(np.int64), np.broadcast_to(1 / np.maximum(boxes, 1), kept.T.shape).T[kept])
    total = np.where(kept, scores, 0).sum(1, dtype=np.float64)
    confidence = np.divide(total, boxes, out=np.full(len(rows), np.nan), where=boxes > 0)
    of_boxes = [Values(boxes), labels, Values(confidence)]
    return [*measure_images(images), *of_boxes, *measure_typicality(manifest, rows)]


STATISTICS = Statistics(of, measure)
