"""The data that the out-of-distribution score of a detector is fitted and measured on: whole images, letterboxed."""

from collections.abc import Mapping

import numpy as np

from service.tasks.detection.letterbox import Letterbox, place
from service.tasks.images import UInt8Array
from training.data import foreign
from training.detection.data import DetectionData
from training.detection.learner import EVALUATION_BATCH
from training.export.evaluator import run_in_batches
from training.export.ood import MAPS, OodData, ood_uses, some_indices

# A photograph takes as long as hundreds of small images.
_MOST_TRAINING, _MOST_OTHERS = 1000, 400
_MOST_FOREIGN = 100


def ood_data_from_photographs(data: DetectionData, sources: Mapping[str, str] | None = None) -> OodData:
    """The data for images with boxes.

    The thresholds of boxes, which all of validation chooses, have no part in the score.

    Args:
        data: the images.
        sources: other images, by name; see `training.data.foreign.read_images`.
    """
    shape = (*data.size, 3)
    train, (_, calibration) = some_indices(len(data.train), _MOST_TRAINING), data.division
    others = foreign.made_up_images(shape, _MOST_FOREIGN)
    others |= {
        name: foreign.read_images(source, shape, _MOST_FOREIGN, _framed) for name, source in (sources or {}).items()
    }
    return OodData(
        MAPS,
        data.train.images[train],
        np.zeros(len(train), np.int64),
        data.validation.images[calibration[some_indices(len(calibration), _MOST_OTHERS)]],
        data.test.images[some_indices(len(data.test), _MOST_OTHERS)],
        others,
        lambda graph, images: run_in_batches(graph, "images", images, EVALUATION_BATCH),
        ood_uses(len(train), data.division, _MOST_OTHERS),
    )


def _framed(pixels: UInt8Array, height: int, width: int) -> UInt8Array:
    geometry = Letterbox.of(pixels.shape[0], pixels.shape[1], height, width)
    return place(pixels, geometry, height, width)
