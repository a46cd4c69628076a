"""The data that an out-of-distribution score is fitted and measured on, and that of models of images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.inference.cards import Use
from training.data import foreign
from training.data.images import ImageData
from training.export.distances import MOST_HELD_OUT, Distance, Method
from training.export.evaluator import Array, run_in_batches, sample
from training.export.history import DISTANCES, P_VALUES, halves_used
from training.export.layers import middle_map, penultimate

MOST_TRAINING, MOST_TEST = 5000, 2000
_MIDDLE = (
    "how far the means of the channels in the middle of the network are from those of training images (Mahalanobis "
    "distance)"
)

MAPS = Method(_MIDDLE, ((Distance.mahalanobis, middle_map),))
IMAGES = Method(
    f"{_MIDDLE}, and the last layer's features from those of the nearest class",
    (*MAPS.distances, (Distance.to_class_means, penultimate)),
)


@dataclass(frozen=True, slots=True)
class OodData:
    """Items of a task; only `run` needs to know what they are.

    Attributes:
        method: how the score is computed.
        train: training items.
        labels: their class indices, shape (n,); all equal where there are no classes.
        held_out: distinct items that the p-values are calibrated on, from the calibration half of validation.
        test: items of the test split.
        foreign: out-of-distribution items, by the name of their data.
        run: a graph's outputs for items, in their order.
        uses: the record of `train` and `held_out`.
    """

    method: Method
    train: Any
    labels: npt.NDArray[np.int64]
    held_out: Any
    test: Any
    foreign: Mapping[str, Any]
    run: Callable[[Path, Any], list[Array]]
    uses: tuple[Use, ...]


def ood_data_from_images(data: ImageData, sources: Mapping[str, str] | None = None, method: Method = IMAGES) -> OodData:
    """The data for a model of images; `sources` are other images by name (`training.data.foreign.read_images`)."""
    # Images of more pixels take long.
    less = 1 if data.shape[0] * data.shape[1] <= 128 * 128 else 5
    train = data.train.take(some_indices(len(data.train), MOST_TRAINING // less))
    _, calibration = data.division
    others = foreign.made_up_images(data.shape)
    others |= {name: foreign.read_images(source, data.shape) for name, source in (sources or {}).items()}
    return OodData(
        method,
        train.images,
        train.labels,
        data.validation.take(calibration[some_indices(len(calibration), MOST_HELD_OUT // less)]).images,
        data.test.take(some_indices(len(data.test), MOST_TEST // less)).images,
        {name: images[: foreign.MOST // less] for name, images in others.items()},
        lambda graph, images: run_in_batches(graph, "images", images),
        ood_uses(len(train), data.division, MOST_HELD_OUT // less),
    )


def ood_uses(train: int, division: Any, held_out: int = MOST_HELD_OUT) -> tuple[Use, ...]:
    """The record of `OodData`: `train` training items, and at most `held_out` of the calibration half."""
    fitted = Use(split="train", purpose=DISTANCES, items=train)
    return (fitted, *halves_used(division, calibration=(P_VALUES,), most=held_out))


def some_indices(count: int, most: int) -> npt.NDArray[np.int64]:
    """The indices of up to `most` of so many items, in ascending order; always the same random ones."""
    return np.sort(sample(most, count))
