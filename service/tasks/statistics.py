"""Statistics of inputs and answers: what tasks share. Training and the service measure them with the same code."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.tasks.base import Statistic, Values
from service.tasks.familiarity import UNFAMILIAR, FamiliarManifest

# Pixels of an image that are looked at, about.
_PIXELS = 1024
# The name of a statistic that estimates the accuracy.
CONFIDENCE = "confidence"


IMAGE_STATISTICS = (Statistic("input", "brightness"), Statistic("input", "sharpness"))


def measure_images(images: Sequence[npt.NDArray[np.uint8]]) -> list[Values]:
    """Brightness, and sharpness: the mean difference of neighbouring pixels. Both are from 0 to 1.

    Args:
        images: uint8 (height, width, channels), of one size. Of large ones, a grid of pixels is looked at.
    """
    height, width, _ = images[0].shape
    step = max(1, round((height * width / _PIXELS) ** 0.5))
    # Where the pixels of the grid have neighbours, unless an image is a single line.
    down, right = max(1, height - 1), max(1, width - 1)
    grid = np.stack([image[:down:step, :right:step] for image in images]).astype(np.int16)
    below = np.stack([image[height - down :: step, :right:step] for image in images])
    beside = np.stack([image[:down:step, width - right :: step] for image in images])
    axes = (1, 2, 3)
    difference = np.abs(grid - below).mean(axes) + np.abs(grid - beside).mean(axes)
    return [Values(grid.mean(axes) / 255), Values(difference / 510)]


def label_statistics(labels: tuple[str, ...]) -> tuple[Statistic, ...]:
    """Of answers with the probabilities of these labels."""
    return (Statistic("answer", "label", labels), Statistic("answer", CONFIDENCE))


def measure_labels(rows: Sequence[Any]) -> list[Values]:
    """The most likely label and its probability, the first output of each row being all probabilities."""
    probabilities = np.stack([row[0] for row in rows])
    return [Values(probabilities.argmax(1)), Values(probabilities.max(1).astype(np.float64))]


def typicality_statistics(manifest: FamiliarManifest) -> tuple[Statistic, ...]:
    """Whether inputs are like the training data, if the model has p-values."""
    return (Statistic("answer", UNFAMILIAR, ("typical", UNFAMILIAR)),) if manifest.familiarity else ()


def measure_typicality(manifest: FamiliarManifest, rows: Sequence[Any]) -> list[Values]:
    """Whether each p-value is below the model's level."""
    card = manifest.familiarity
    return [Values((np.array([row[-1] for row in rows]) < card.level).astype(np.int64))] if card else []
