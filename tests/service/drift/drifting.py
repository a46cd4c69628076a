"""The tiny classifier of colours, with histograms of 2,000 validation images."""

from typing import Any

import numpy as np

from service.drift.histograms import make_histogram
from service.tasks.base import Values
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.classification.statistics import STATISTICS
from tests.tiny import SIZE, answer, manifest

PLAIN = ClassifierManifest.model_validate({**manifest(), "files": {}})


def images(count: int, seed: int = 0, brightness: float = 1.0) -> np.ndarray:
    """Noise of various brightness."""
    random = np.random.default_rng(seed)
    levels = random.uniform(50, 200, (count, 1, 1, 1)) * brightness
    return (random.uniform(0.5, 1, (count, SIZE, SIZE, 3)) * levels).astype(np.uint8)


def rows(pixels: np.ndarray) -> list[Any]:
    """What the graph answers."""
    return [(row,) for row in answer(pixels)]


def histograms() -> tuple[Any, ...]:
    """Of what `images` gives."""
    pixels = images(2000, seed=1)
    found: list[Values] = STATISTICS.measure(PLAIN, pixels, rows(pixels))
    return tuple(make_histogram(*pair) for pair in zip(STATISTICS.of(PLAIN), found, strict=True))


def written_histograms() -> list[Any]:
    """The same as a manifest has them."""
    return [each.model_dump(mode="json") for each in histograms()]


MANIFEST = PLAIN.model_copy(update={"histograms": histograms()})
