"""What is counted of an image classifier: the look of the images, the labels, the confidence."""

from collections.abc import Sequence
from typing import Any

from service.tasks.base import Statistic, Statistics, Values
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.statistics import (
    IMAGE_STATISTICS,
    label_statistics,
    measure_images,
    measure_labels,
    measure_typicality,
    typicality_statistics,
)


def of(manifest: ClassifierManifest) -> tuple[Statistic, ...]:
    """See `service.tasks.base.Statistics`."""
    return (*IMAGE_STATISTICS, *label_statistics(manifest.labels), *typicality_statistics(manifest))


def measure(manifest: ClassifierManifest, images: Sequence[Any], rows: Sequence[Any]) -> list[Values]:
    """See `service.tasks.base.Statistics`."""
    return [*measure_images(images), *measure_labels(rows), *measure_typicality(manifest, rows)]


STATISTICS = Statistics(of, measure)
