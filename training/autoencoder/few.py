"""Does generated data help when real data is scarce? A few images a class, an autoencoder trained on those alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from training.augment import Augment
from training.autoencoder.density import DensitySettings, fit_density
from training.autoencoder.judge import make_network
from training.autoencoder.network import Autoencoder
from training.autoencoder.task import Restoration, RestorationSettings, decode, encode, settle
from training.classification import Classification, ClassificationSettings, predict
from training.data import DataError, ImageData, ImageSplit
from training.fit import FitSettings, fit


@dataclass(frozen=True, slots=True)
class FewSettings:
    """How the study is done.

    Attributes:
        per_class: real images of each class.
        generated: invented images of each class.
        seeds: how often it is repeated, with other images and other weights.
        autoencoder_epochs: passes over the real images.
        steps: of each classifier, so that the one with more images does not train for longer.
    """

    per_class: int = 20
    generated: int = 200
    seeds: int = 5
    autoencoder_epochs: int = 200
    steps: int = 300


def check_few(data: ImageData, settings: FewSettings) -> None:
    """Refuses data with too few images for the study.

    Raises:
        DataError: names the class.
    """
    for label, name in enumerate(data.classes):
        count = int((data.train.labels == label).sum())
        if count < settings.per_class:
            raise DataError(
                f"{data.name} [train]: --few takes {settings.per_class} images of each class; {name!r} has {count}."
            )


def few_images(
    data: ImageData,
    settings: FewSettings,
    network: tuple[int, tuple[int, ...]],
    folder: Path,
    accelerator: Accelerator,
    console: Console,
) -> list[dict[str, float]]:
    """Test accuracy of a classifier of a few real images, alone and with generated ones.

    Args:
        data: of which a few training images are used; the test split measures.
        settings: how.
        network: latent numbers and widths of the autoencoder.
        folder: for checkpoints.
        accelerator: the device and the precision.
        console: where progress goes.

    Returns:
        A row for each seed: `real`, and `with_generated`.
    """
    quiet, rows = Console(quiet=True), []
    for seed in range(settings.seeds):
        random = np.random.default_rng(seed)
        chosen = np.concatenate(
            [
                random.choice(np.flatnonzero(data.train.labels == label), settings.per_class, replace=False)
                for label in range(len(data.classes))
            ]
        )
        real = data.train.take(chosen)
        latent, widths = network
        model = Autoencoder(data.shape, latent, widths)
        task = Restoration(real.images, real.images, RestorationSettings())
        how = FitSettings(
            epochs=settings.autoencoder_epochs, batch_size=50, optimizer="adamw", lr=2e-3, ema=0.99, seed=seed
        )
        # As few images as that leave none to choose an epoch by, here and below.
        fit(model, task, how, folder / "few", accelerator=accelerator, console=quiet, keep="last", whole=True)
        settle(model, real.images)
        density = fit_density(encode(model, real.images), real.labels, len(data.classes), DensitySettings(seed=seed))
        count = settings.generated
        invented = [density.draw(count, seed=1000 * seed + label, label=label)[0] for label in range(len(data.classes))]
        images = decode(model, np.concatenate(invented))
        more = ImageSplit(
            np.concatenate((real.images, images)),
            np.concatenate((real.labels, np.repeat(np.arange(len(data.classes)), count))),
        )
        row = {
            "real": _accuracy(data, real, settings.steps, seed, folder, accelerator),
            "with_generated": _accuracy(data, more, settings.steps, seed, folder, accelerator),
        }
        console.print(f"few images, seed {seed}: " + "  ".join(f"{name} {value:.4f}" for name, value in row.items()))
        rows.append(row)
    return rows


def _accuracy(
    data: ImageData, train: ImageSplit, steps: int, seed: int, folder: Path, accelerator: Accelerator
) -> float:
    batch = 50
    learning = ClassificationSettings(augment=Augment(flip=False, translate=2, cutout=0))
    settings = FitSettings(
        epochs=max(1, round(steps * batch / len(train))), batch_size=batch, lr=0.05, ema=0.0, seed=seed
    )
    network = make_network(data, train, seed)
    task = Classification(train, train.take(np.arange(min(50, len(train)))), learning)
    quiet = Console(quiet=True)
    fit(network, task, settings, folder / "few", accelerator=accelerator, console=quiet, keep="last", whole=True)
    return float((predict(network, data.test.images).argmax(1) == data.test.labels).mean())
