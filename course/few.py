"""Whether an autoencoder helps where labelled images are scarce: by the images that it generates, and by its latents.

An autoencoder and a density are fitted to a few real images of each class. One classifier is trained on these images,
another for as many steps on these and on generated ones. A published encoder, which has seen many more images but no
labels, gives latents to a logistic regression, and another one reads pixels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from accelerate import Accelerator
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from course.study import Row, mean_and_deviation, measure_rows, study_parser, table, write_study
from service.inference.manifest import MANIFEST, MODEL
from service.tasks.autoencoder.manifest import EncoderManifest
from training.autoencoder.evaluation import AUGMENT, fit_density, flat, make_network
from training.autoencoder.learner import Reconstruction, decode, encode, recompute_norms
from training.autoencoder.network import Autoencoder
from training.autoencoder.options import LARGEST, NetworkSettings, ReconstructionSettings
from training.classification.learner import Classification, ClassificationSettings, predict
from training.data.dataset import DataError
from training.data.images import ImageData, ImageSplit, load_images
from training.engine.fit import fit
from training.engine.settings import FitSettings
from training.export.evaluator import run_in_batches

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
    parser.add_argument("--encoder", type=Path, help="a published encoder, such as models/encoder/1 (default: none)")
    options = parser.parse_args(arguments)
    settings = FewSettings(**{field.name: getattr(options, field.name) for field in dataclasses.fields(FewSettings)})
    data = load_images(options.data, largest=LARGEST, limit=options.limit, seed=options.seed)
    _check(data, settings)
    encoder, folder = options.encoder and options.encoder / MODEL, options.folder
    measures = {
        str(seed): partial(_measure, data, settings, seed, folder / "training" / str(seed), encoder)
        for seed in range(options.seed, options.seed + options.seeds)
    }
    origin = {
        "data": data.fingerprint,
        "network": dataclasses.asdict(NetworkSettings()),
        **dataclasses.asdict(settings),
        "encoder": EncoderManifest.model_validate_json((encoder.parent / MANIFEST).read_bytes()).files[MODEL]
        if encoder
        else None,
    }
    rows = measure_rows(folder, origin, measures, Console(), side_by_side=True)
    write_report(folder, rows, settings)


def write_report(folder: Path, rows: Mapping[str, Row], settings: FewSettings) -> None:
    """Writes the tables."""
    real, more = ([row[name] for row in rows.values()] for name in ("real", "with_generated"))
    gain = [after - before for before, after in zip(real, more, strict=True)]
    parts = [
        "# Does an autoencoder help when labelled images are scarce?",
        f"There are {settings.per_class} labelled images of each class; each seed draws others. All figures are "
        "accuracy on test.",
        "## Generated images as training data",
        "An autoencoder and a density are fitted to only these images. One convolutional network is trained on the "
        f"real images, another for as many steps on the real and {settings.generated} generated ones per class.",
        table(
            ("seed", "real images", "with generated images", "gain"),
            [
                (seed, f"{before:.4f}", f"{after:.4f}", f"{change:+.4f}")
                for seed, before, after, change in zip(rows, real, more, gain, strict=True)
            ],
        ),
        f"Mean gain: {mean_and_deviation(gain)}; {sum(change > 0 for change in gain)} of {len(gain)} gains are "
        "positive.",
    ]
    if all("latents" in row for row in rows.values()):
        pixels, latents = ([row[name] for row in rows.values()] for name in ("pixels", "latents"))
        parts += [
            "## Latents as features",
            "The published encoder has learned from all training images, without their labels. Logistic regression on "
            f"its latents of the {settings.per_class} labelled images of each class, and on their pixels:",
            table(
                ("seed", "pixels", "latents"),
                [(seed, f"{a:.4f}", f"{b:.4f}") for seed, a, b in zip(rows, pixels, latents, strict=True)],
            ),
            f"Means: {mean_and_deviation(pixels)} on pixels, {mean_and_deviation(latents)} on latents, "
            f"{mean_and_deviation(real)} with the convolutional network on the same images.",
        ]
    write_study(folder, *parts)


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


def _measure(data: ImageData, settings: FewSettings, seed: int, folder: Path, encoder: Path | None) -> Row:
    """Test accuracy with real images alone, with generated ones, and of logistic regression on pixels and latents."""
    accelerator, random, labels = Accelerator(), np.random.default_rng(seed), range(len(data.classes))
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
    row = {"real": accuracy(real), "with_generated": accuracy(more)}
    if encoder:
        for name, read in (("pixels", flat), ("latents", partial(_latents, encoder))):
            regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
            regression.fit(read(real.images[:]), real.labels)
            row[name] = float(regression.score(read(data.test.images[:]), data.test.labels))
    return row


def _latents(encoder: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    latents: npt.NDArray[np.float32] = run_in_batches(encoder, "images", images, 64)[0]
    return latents


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
