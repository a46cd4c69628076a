"""What is counted of a text classifier: length, unknown words, the labels, the confidence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.tasks.base import Statistic, Statistics, Values
from service.tasks.statistics import label_statistics, measure_labels, measure_typicality, typicality_statistics
from service.tasks.text.manifest import TextManifest
from service.tasks.text.reading import PAD, UNKNOWN


def of(manifest: TextManifest) -> tuple[Statistic, ...]:
    """See `service.tasks.base.Statistics`."""
    inputs = Statistic("input", "length"), Statistic("input", "unknown words")
    return (*inputs, *label_statistics(manifest.labels), *typicality_statistics(manifest))


def measure(manifest: TextManifest, texts: Sequence[Any], rows: Sequence[Any]) -> list[Values]:
    """See `service.tasks.base.Statistics`. The length is that of what is read; unknown words are a share of it."""
    lengths = np.array([np.count_nonzero(ids != PAD) for ids in texts], np.float64)
    unknown = np.array([np.count_nonzero(ids == UNKNOWN) for ids in texts], np.float64)
    shares = unknown / np.maximum(lengths, 1)
    return [Values(lengths), Values(shares), *measure_labels(rows), *measure_typicality(manifest, rows)]


STATISTICS = Statistics(of, measure)
