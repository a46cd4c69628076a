"""A classifier of real images that says what generated ones show, and how far they are from real ones."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from rich.console import Console

from training.autoencoder.evaluation import Judge
from training.backbones.cnn import CNN, Normalize, sample
from training.classification.labels import LabelledImages, predict
from training.data.augment import Augment, to_pixels
from training.data.images import ImageData, ImageSplit
from training.data.lazy import Images
from training.engine.fit import fit
from training.engine.settings import FitSettings
from training.old_run import as_served

EVALUATION_BATCH = 500
# No flip: a mirrored digit is no digit, and that may hold for anything else that is written or drawn.
AUGMENT = Augment(flip=False, translate=2, cutout=0)


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
    task = LabelledImages(data.train, data.validation, AUGMENT.scaled_to(data.shape))
    settings = FitSettings(epochs=epochs, batch_size=256, lr=0.2, seed=seed)
    # A folder for each data set, so that only a training on the same data is resumed.
    run = folder / f"{data.fingerprint.rpartition(':')[2][:16]}-{epochs}"
    origin = {"data": data.fingerprint}
    fit(network, task, settings, run, accelerator=accelerator, console=console, resume=True, origin=origin)
    network = as_served(network)

    def classify(images: Images) -> npt.NDArray[np.int64]:
        return predict(network, images).argmax(1)

    @torch.no_grad()
    def features(images: Images) -> npt.NDArray[np.float32]:
        parts = [
            network.features(to_pixels(torch.from_numpy(images[start : start + EVALUATION_BATCH])))
            for start in range(0, len(images), EVALUATION_BATCH)
        ]
        return torch.cat(parts).numpy()

    accuracy = float((classify(data.test.images) == data.test.labels).mean())
    return Judge(accuracy, classify, features)
