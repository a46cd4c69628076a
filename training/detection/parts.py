"""What the familiarity of a detector is fitted and measured on: whole images, in frames as it is shown them."""

from collections.abc import Mapping

import numpy as np

from service.inference.cards import Use
from service.tasks.detection.letterbox import Letterbox, place
from service.tasks.images import UInt8Array
from training.data import foreign
from training.detection.data import DetectionData
from training.detection.task import EVALUATION_BATCH
from training.export.evaluator import run_in_batches
from training.export.familiarity import Mahalanobis, Method, Parts
from training.export.history import DISTANCES, P_VALUES, halves_used
from training.export.layers import middle_map
from training.export.parts import CHOSEN_ON, some

# A photograph takes as long as hundreds of small images.
_MOST_TRAINING, _MOST_OTHERS = 1000, 400
_MOST_FOREIGN = 100

PHOTOGRAPHS = Method(
    "how far the means of the channels in the middle of the network are from those of training images (Mahalanobis "
    "distance)",
    CHOSEN_ON,
    ((Mahalanobis, middle_map),),
)


def of_photographs(data: DetectionData, sources: Mapping[str, str] | None = None) -> Parts:
    """The parts of a data set of images with boxes.

    The thresholds of boxes, which all of validation chooses, have no part in the distance.

    Args:
        data: the images.
        sources: other images, by what they are; see `training.data.foreign.read_images`.
    """
    shape = (*data.size, 3)
    _, calibration = data.division
    others = foreign.made_up_images(shape, _MOST_FOREIGN)
    others |= {
        name: foreign.read_images(source, shape, _MOST_FOREIGN, _framed) for name, source in (sources or {}).items()
    }
    return Parts(
        PHOTOGRAPHS,
        data.train.images[some(len(data.train), _MOST_TRAINING)],
        np.zeros(min(len(data.train), _MOST_TRAINING), np.int64),
        data.validation.images[calibration[some(len(calibration), _MOST_OTHERS)]],
        data.test.images[some(len(data.test), _MOST_OTHERS)],
        others,
        lambda graph, images: run_in_batches(graph, "images", images, EVALUATION_BATCH),
        (
            Use(split="train", purpose=DISTANCES, items=min(len(data.train), _MOST_TRAINING)),
            *halves_used(data.division, calibration=(P_VALUES,), most=_MOST_OTHERS),
        ),
    )


def _framed(pixels: UInt8Array, height: int, width: int) -> UInt8Array:
    geometry = Letterbox.of(pixels.shape[0], pixels.shape[1], height, width)
    return place(pixels, geometry, height, width)
