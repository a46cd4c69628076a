"""A classifier of real images that says what generated ones show, and how far they are from real ones."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from rich.console import Console

from training.backbones.cnn import CNN, Normalize, sample
from training.classification.learner import EVALUATION_BATCH, Classification, ClassificationSettings, predict
from training.data.augment import Augment, to_pixels
from training.data.images import ImageData, ImageSplit
from training.data.lazy import Images
from training.engine.fit import fit
from training.engine.settings import FitSettings
from training.run import as_served

# No flip: a mirrored digit is no digit, and that may hold for anything else that is written or drawn.
AUGMENT = Augment(flip=False, translate=2, cutout=0)


class Judge:
    """A classifier trained on real images; `network` is on the CPU."""

    def __init__(self, network: CNN) -> None:
        self._network = network

    def classify(self, images: Images) -> npt.NDArray[np.int64]:
        """The classes of uint8 images, int64, shape (n,)."""
        return predict(self._network, images).argmax(1)

    def accuracy(self, images: Images, labels: npt.NDArray[np.int64]) -> float:
        """The fraction of uint8 images whose class is right."""
        return float((self.classify(images) == labels).mean())

    @torch.no_grad()
    def features(self, images: Images) -> npt.NDArray[np.float32]:
        """The input of the last layer, float32, shape (n, features), of uint8 images."""
        starts = range(0, len(images), EVALUATION_BATCH)
        parts = (torch.from_numpy(images[start : start + EVALUATION_BATCH]) for start in starts)
        return torch.cat([self._network.features(to_pixels(part)) for part in parts]).numpy()


def make_network(data: ImageData, train: ImageSplit, seed: int) -> CNN:
    """A small CNN, with weights initialised from `seed`."""
    torch.manual_seed(seed)
    network = CNN(Normalize.of(train), data.shape, len(data.classes), widths=(32, 64, 64), depth=2)
    network.init_whiten(to_pixels(torch.from_numpy(sample(train))))
    return network


def train_judge(
    data: ImageData, epochs: int, folder: Path, accelerator: Accelerator, console: Console, seed: int = 0
) -> Judge:
    """Trains a judge on the real images; a finished training is not repeated.

    Args:
        data: the real images.
        epochs: of the training.
        folder: keeps its checkpoint.
        accelerator: the device and the precision.
        console: where progress goes.
        seed: of the training.
    """
    network = make_network(data, data.train, seed)
    learner = Classification(data.train, data.validation, ClassificationSettings(augment=AUGMENT.scaled_to(data.shape)))
    settings = FitSettings(epochs=epochs, batch_size=256, lr=0.2, seed=seed)
    # A folder for each data set, so that only a training on the same data is resumed.
    run = folder / f"{data.fingerprint.rpartition(':')[2][:16]}-{epochs}"
    origin = {"data": data.fingerprint}
    fit(network, learner, settings, run, accelerator=accelerator, console=console, resume=True, origin=origin)
    return Judge(as_served(network))
