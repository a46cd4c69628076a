"""What the familiarity of models of images is fitted and measured on, and the method for them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from service.inference.cards import Use
from training.data import foreign
from training.data.images import ImageData
from training.export.evaluator import run_in_batches, sample
from training.export.familiarity import MOST_HELD_OUT, Mahalanobis, Method, Parts, ToClassMeans
from training.export.history import DISTANCES, P_VALUES, halves_used
from training.export.layers import middle_map, penultimate

# At random, but always the same ones.
MOST_TRAINING, MOST_TEST = 5000, 2000
# Images of more pixels take long; a fifth of them has to do.
_LARGE = 128 * 128

# The committed models' cards measure on the same kinds of data.
CHOSEN_ON = "the made-up and foreign data that the cards of the committed models measure on"

IMAGES = Method(
    "how far the means of the channels in the middle of the network are from those of training images (Mahalanobis "
    "distance), and the last layer's features from those of the nearest class",
    CHOSEN_ON,
    ((Mahalanobis, middle_map), (ToClassMeans, penultimate)),
)
CODES = Method(
    "how far the means of the channels in the middle of the network are from those of training images (Mahalanobis "
    "distance)",
    CHOSEN_ON,
    ((Mahalanobis, middle_map),),
)


def of_images(data: ImageData, sources: Mapping[str, str] | None = None, method: Method = IMAGES) -> Parts:
    """The parts of a data set of images.

    Args:
        data: the images.
        sources: other images, by what they are; see `training.data.foreign.read_images`.
        method: how familiarity is measured.
    """
    share = 1 if data.shape[0] * data.shape[1] <= _LARGE else 5
    train = data.train.take(some(len(data.train), MOST_TRAINING // share))
    _, calibration = data.division
    others = foreign.made_up_images(data.shape)
    others |= {name: foreign.read_images(source, data.shape) for name, source in (sources or {}).items()}
    return Parts(
        method,
        train.images,
        train.labels,
        data.validation.take(calibration[some(len(calibration), MOST_HELD_OUT // share)]).images,
        data.test.take(some(len(data.test), MOST_TEST // share)).images,
        {name: images[: foreign.MOST // share] for name, images in others.items()},
        lambda graph, images: run_in_batches(graph, "images", images),
        (
            Use(split="train", purpose=DISTANCES, items=len(train)),
            *halves_used(data.division, calibration=(P_VALUES,), most=MOST_HELD_OUT // share),
        ),
    )


def some(count: int, most: int) -> npt.NDArray[np.int64]:
    """The indices of up to `most` of so many items, at random but always the same."""
    return np.sort(sample(most, count))
