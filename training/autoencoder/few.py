"""Does generated data help when real data is scarce? Few images per class, and an autoencoder trained on only those."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from training.autoencoder.density import DensitySettings, fit_density
from training.autoencoder.judge import AUGMENT, make_network
from training.autoencoder.network import Autoencoder
from training.autoencoder.options import NetworkSettings, ReconstructionSettings
from training.autoencoder.task import Reconstruction, decode, encode, recompute_norms
from training.classification.labels import LabelledImages, predict
from training.data.dataset import DataError
from training.data.images import ImageData, ImageSplit
from training.engine.fit import fit
from training.engine.processes import from_main
from training.engine.settings import FitSettings
from training.rows import Row, keep_rows, recall_rows


@dataclass(frozen=True, slots=True)
class FewSettings:
    """How the study is done.

    Attributes:
        per_class: real images of each class.
        generated: generated images of each class.
        seeds: the number of repetitions, with other images and other weights.
        autoencoder_epochs: passes over the real images.
        steps: of each classifier, so that more images do not mean a longer training.
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
    if len(data.classes) < 2:
        raise DataError(f"{data.name}: --few needs images with labels.")
    for label, name in enumerate(data.classes):
        count = int((data.train.labels == label).sum())
        if count < settings.per_class:
            raise DataError(
                f"{data.name} [train]: --few takes {settings.per_class} images of each class; {name!r} has {count}."
            )


def run_study(
    network: NetworkSettings,
    data: ImageData,
    settings: FewSettings,
    path: Path,
    accelerator: Accelerator,
    console: Console,
) -> list[Row]:
    """Test accuracy of a classifier trained on a few real images, alone and with generated ones.

    Args:
        network: of the autoencoder.
        data: of which a few training images are used; the test split measures.
        settings: of the study.
        path: the JSON file that keeps the rows; a study that is already in it is not repeated.
        accelerator: the device and the precision.
        console: where progress goes.

    Returns:
        A row for each seed: `real`, and `with_generated`.
    """
    origin = {"data": data.fingerprint, "network": asdict(network), "settings": asdict(settings)}
    rows = from_main(accelerator, recall_rows(path, origin))
    if rows:
        return rows
    quiet, folder = Console(quiet=True), path.parent / "few"
    for seed in range(settings.seeds):
        random = np.random.default_rng(seed)
        chosen = np.concatenate(
            [
                random.choice(np.flatnonzero(data.train.labels == label), settings.per_class, replace=False)
                for label in range(len(data.classes))
            ]
        )
        real = data.train.take(chosen)
        model = Autoencoder(data.shape, network.latent, network.widths)
        # What is generated is to help, not what is restored.
        learning = ReconstructionSettings(denoise=0)
        task = Reconstruction(real.images, real.images, learning)
        how = FitSettings(
            epochs=settings.autoencoder_epochs, batch_size=50, optimizer="adamw", lr=2e-3, ema=0.99, seed=seed
        )
        # With so few images there are none left to choose an epoch by, here and below.
        fit(model, task, how, folder, accelerator=accelerator, console=quiet, keep="last")
        recompute_norms(model, real.images, learning.denoise)
        density = fit_density(encode(model, real.images), real.labels, len(data.classes), DensitySettings(seed=seed))
        count = settings.generated
        latents = [density.draw(count, seed=1000 * seed + label, label=label)[0] for label in range(len(data.classes))]
        images = decode(model, np.concatenate(latents))
        more = ImageSplit(
            np.concatenate((real.images[:], images)),
            np.concatenate((real.labels, np.repeat(np.arange(len(data.classes)), count))),
        )
        row = {
            "real": _accuracy(data, real, settings.steps, seed, folder, accelerator),
            "with_generated": _accuracy(data, more, settings.steps, seed, folder, accelerator),
        }
        console.print(f"few images, seed {seed}: " + "  ".join(f"{name} {value:.4f}" for name, value in row.items()))
        rows.append(row)
    if accelerator.is_main_process:
        keep_rows(path, origin, rows)
    return rows


def _accuracy(
    data: ImageData, train: ImageSplit, steps: int, seed: int, folder: Path, accelerator: Accelerator
) -> float:
    batch = 50
    settings = FitSettings(
        epochs=max(1, round(steps * batch / len(train))), batch_size=batch, lr=0.05, ema=0.0, seed=seed
    )
    network = make_network(data, train, seed)
    task = LabelledImages(train, train.take(np.arange(min(50, len(train)))), AUGMENT.scaled_to(data.shape))
    quiet = Console(quiet=True)
    fit(network, task, settings, folder, accelerator=accelerator, console=quiet, keep="last")
    return float((predict(network, data.test.images).argmax(1) == data.test.labels).mean())
