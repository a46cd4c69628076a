"""Whether generated images help where real ones are scarce.

An autoencoder and a density are fitted to a few real images of each class. One classifier is trained on these images,
another for as many steps on these and on generated ones.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from rich.console import Console

from course.study import Row, mean_and_deviation, measure_rows, study_parser, table, write_study
from training.autoencoder.evaluation import AUGMENT, fit_density, make_network
from training.autoencoder.learner import Reconstruction, decode, encode, recompute_norms
from training.autoencoder.network import Autoencoder
from training.autoencoder.options import LARGEST, NetworkSettings, ReconstructionSettings
from training.classification.learner import Classification, ClassificationSettings, predict
from training.data.dataset import DataError
from training.data.images import ImageData, ImageSplit, load_images
from training.engine.fit import fit
from training.engine.settings import FitSettings

QUIET = Console(quiet=True)


@dataclasses.dataclass(frozen=True, slots=True)
class FewSettings:
    """How the study is done.

    Attributes:
        per_class: real images of each class.
        generated: generated images of each class.
        autoencoder_epochs: passes over the real images.
        steps: of each classifier, so that more images do not mean a longer training.
    """

    per_class: int = 20
    generated: int = 200
    autoencoder_epochs: int = 200
    steps: int = 300


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study and writes its report."""
    parser = study_parser("course.few", __doc__, seeds=5)
    for field in dataclasses.fields(FewSettings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    options = parser.parse_args(arguments)
    settings = FewSettings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(FewSettings)})
    data = load_images(options.data, largest=LARGEST, limit=options.limit, seed=options.seed)
    _check(data, settings)
    accelerator, folder = Accelerator(), options.folder
    measures = {
        str(seed): partial(_measure, data, settings, seed, folder / "training", accelerator)
        for seed in range(options.seed, options.seed + options.seeds)
    }
    origin = {
        "data": data.fingerprint,
        "network": dataclasses.asdict(NetworkSettings()),
        **dataclasses.asdict(settings),
    }
    rows = measure_rows(folder, origin, measures, Console())
    gain = [row["with_generated"] - row["real"] for row in rows.values()]
    write_study(
        folder,
        "# Does generated data help when real data is scarce?",
        f"With {settings.per_class} real images per class: an autoencoder and a density are fitted to only those; one "
        "classifier is trained on the real images, another for as many steps on the real and "
        f"{settings.generated} generated ones per class. Test accuracy:",
        table(
            ("seed", "real images", "with generated images", "gain"),
            [
                (
                    seed,
                    f"{row['real']:.4f}",
                    f"{row['with_generated']:.4f}",
                    f"{row['with_generated'] - row['real']:+.4f}",
                )
                for seed, row in rows.items()
            ],
        ),
        f"Mean gain: {mean_and_deviation(gain)}.",
    )


def _check(data: ImageData, settings: FewSettings) -> None:
    """Refuses data with too few images of a class, or without classes."""
    if len(data.classes) < 2:
        raise DataError(f"{data.name}: the study needs images with labels.")
    for label, name in enumerate(data.classes):
        count = int((data.train.labels == label).sum())
        if count < settings.per_class:
            raise DataError(
                f"{data.name} [train]: the study takes {settings.per_class} images of each class; {name!r} has {count}."
            )


def _measure(data: ImageData, settings: FewSettings, seed: int, folder: Path, accelerator: Accelerator) -> Row:
    """Test accuracy with real images alone, and with generated ones."""
    random, labels = np.random.default_rng(seed), range(len(data.classes))
    chosen = [
        random.choice(np.flatnonzero(data.train.labels == label), settings.per_class, replace=False) for label in labels
    ]
    real = data.train.take(np.concatenate(chosen))
    network = NetworkSettings()
    model = Autoencoder(data.shape, network.latent, network.widths)
    # No noise: this autoencoder generates and restores nothing.
    task = Reconstruction(real.images, real.images, ReconstructionSettings(denoise=0))
    how = FitSettings(
        epochs=settings.autoencoder_epochs, batch_size=50, optimizer="adamw", lr=2e-3, ema=0.99, seed=seed
    )
    # So few images leave none to choose an epoch by, here and below.
    fit(model, task, how, folder, accelerator=accelerator, console=QUIET, keep="last")
    recompute_norms(model, real.images, 0)
    density = fit_density(encode(model, real.images), real.labels, len(data.classes), seed=seed)
    count = settings.generated
    latents = [density.draw(count, seed=1000 * seed + label, label=label)[0] for label in labels]
    more = ImageSplit(
        np.concatenate((real.images[:], decode(model, np.concatenate(latents)))),
        np.concatenate((real.labels, np.repeat(np.arange(len(data.classes)), count))),
    )
    accuracy = partial(_accuracy, data, steps=settings.steps, seed=seed, folder=folder, accelerator=accelerator)
    return {"real": accuracy(real), "with_generated": accuracy(more)}


def _accuracy(
    data: ImageData, train: ImageSplit, *, steps: int, seed: int, folder: Path, accelerator: Accelerator
) -> float:
    epochs = max(1, round(steps * 50 / len(train)))
    settings = FitSettings(epochs=epochs, batch_size=50, lr=0.05, ema=0.0, seed=seed)
    network = make_network(data, train, seed)
    learning = ClassificationSettings(augment=AUGMENT.scaled_to(data.shape))
    task = Classification(train, train.take(np.arange(min(50, len(train)))), learning)
    fit(network, task, settings, folder, accelerator=accelerator, console=QUIET, keep="last")
    return float((predict(network, data.test.images).argmax(1) == data.test.labels).mean())


if __name__ == "__main__":
    main()
