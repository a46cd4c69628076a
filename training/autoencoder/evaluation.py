"""How good an autoencoder is: its reconstructions, its generated images, and its latents as features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.manifest import AutoencoderMetrics
from training.backbones.cnn import CNN, Normalize, sample
from training.classification.learner import EVALUATION_BATCH, Classification, ClassificationSettings, predict
from training.data.augment import Augment, to_pixels
from training.data.images import ImageData, ImageSplit
from training.data.lazy import Images as SplitImages
from training.engine.fit import fit
from training.engine.settings import FitSettings
from training.engine.weights import CHECKPOINT
from training.export.calibration import softmax
from training.export.evaluator import run_in_batches
from training.export.figures import Interval, bootstrap, wilson
from training.run import as_served

_MOST_PIXELS = 100_000_000
# Standard deviation of the noise that denoising is measured with, on the 0 to 1 scale.
_NOISE = 0.3
# Added to the diagonal of every covariance of a density, as a fraction of the mean variance of the latents.
RIDGE = 1e-3
# No flip: a mirrored digit is no digit, and that may hold for anything else that is written or drawn.
AUGMENT = Augment(flip=False, translate=2, cutout=0)
Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def make_network(data: ImageData, train: ImageSplit, seed: int) -> CNN:
    """A small CNN, with weights initialised from `seed`."""
    torch.manual_seed(seed)
    network = CNN(Normalize.of(train), data.shape, len(data.classes), widths=(32, 64, 64), depth=2)
    network.init_whiten(to_pixels(torch.from_numpy(sample(train))))
    return network


def train_judge(data: ImageData, epochs: int, folder: Path, accelerator: Accelerator, console: Console) -> CNN:
    """Trains a classifier of real images that says what generated ones show, and how far they are from real ones.

    `folder` keeps its checkpoint; a finished training is not repeated.
    """
    network = make_network(data, data.train, seed=0)
    learning = ClassificationSettings(augment=AUGMENT.scaled_to(data.shape))
    learner = Classification(data.train, data.validation, learning)
    # At least twenty steps per epoch; the learning rate is scaled with the batch (Goyal et al. 2017, arXiv:1706.02677).
    batch_size = max(16, min(256, len(data.train) // 20))
    settings = FitSettings(epochs=epochs, batch_size=batch_size, lr=0.2 * batch_size / 256, seed=0)
    # A folder for each data set and settings, so that only the same training is resumed.
    run = folder / f"{data.fingerprint.rpartition(':')[2][:16]}-{epochs}-{batch_size}"
    origin = {"data": data.fingerprint}
    resume = (run / CHECKPOINT).is_file()
    fit(network, learner, settings, run, accelerator=accelerator, console=console, resume=resume, origin=origin)
    return as_served(network)


@torch.no_grad()
def _features(network: CNN, images: SplitImages) -> Floats:
    """The input of the last layer, float32, shape (n, features)."""
    starts = range(0, len(images), EVALUATION_BATCH)
    parts = (torch.from_numpy(images[start : start + EVALUATION_BATCH]) for start in starts)
    return torch.cat([network.features(to_pixels(part)) for part in parts]).numpy()


def read(judge: CNN, images: SplitImages) -> Floats:
    """The probabilities of the classes of images, shape (n, classes)."""
    return softmax(predict(judge, images))


def _accuracy(network: CNN, images: SplitImages, labels: Labels) -> float:
    return float((predict(network, images).argmax(1) == labels).mean())


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything measured, and what the report draws.

    Attributes:
        train_latents: float32, shape (n, latent), as are `test_latents`.
        reconstructed: test images, uint8.
        denoising: of test images with noise: mean squared errors, and accuracies of the judge or None.
    """

    metrics: AutoencoderMetrics
    intervals: dict[str, Interval]
    density: Density
    train_latents: Floats
    test_latents: Floats
    reconstructed: Images
    denoising: dict[str, float | None]


def evaluate(
    graphs: Sequence[Path],
    data: ImageData,
    judge: CNN | None,
    *,
    pca_error: float,
    components: int,
    generated: int,
    seed: int,
) -> Findings:
    """Fits the density to the training images and measures everything on the test split.

    `graphs` are the exported autoencoder, encoder and decoder; `pca_error` is the test error of the baseline; without
    labels there is no judge.
    """
    whole, encoder, decoder = graphs

    def encode(images: SplitImages) -> Floats:
        return run_in_batches(encoder, "images", images)[0]

    def decode(latents: Floats) -> Images:
        return run_in_batches(decoder, "latents", latents)[0]

    train, test = data.train, data.test
    train_latents, test_latents = encode(train.images), encode(test.images)
    density = fit_density(train_latents, train.labels, len(data.classes), components, seed)
    # Logistic regression and the pictures hold all pixels in memory.
    some, tested = bounded(train), bounded(test)
    known, pixels = flat(some.images[:]), flat(tested.images[:])
    reconstructed = decode(test_latents[: len(tested)])
    errors, others = (run_in_batches(whole, "images", part.images)[1] for part in (test, data.validation))
    intervals = bootstrap(lambda chosen: {"mse": float(errors[chosen].mean())}, len(errors))
    figures = {
        "mse": float(errors.mean()),
        "validation_mse": float(others.mean()),
        "pca_mse": pca_error,
    }
    if judge:
        latents, labels = density.draw(generated, seed=seed)
        images = decode(latents)
        right = int((predict(judge, images).argmax(1) == labels).sum())
        intervals["judge_agreement"] = wilson(right, generated)
        # The distance depends on the number of images, so it is the same for each kind.
        count = min(generated, len(train), len(reconstructed))
        chosen = np.random.default_rng(0).permutation(len(train))[:count]
        real = _features(judge, test.images)
        figures |= {
            "linear_latents": linear_accuracy(train_latents, train.labels, test_latents, test.labels),
            "linear_pixels": linear_accuracy(known, some.labels, pixels, tested.labels),
            "judge_accuracy": _accuracy(judge, test.images, test.labels),
            "judge_agreement": right / generated,
            "frechet_generated": frechet_distance(_features(judge, images[:count]), real),
            "frechet_restored": frechet_distance(_features(judge, reconstructed[:count]), real),
            "frechet_train": frechet_distance(_features(judge, train.images[chosen]), real),
        }
    clean = tested.images[:]
    noisy = add_noise(clean)
    restored = decode(encode(noisy))
    denoising: dict[str, Any] = {"noise": _NOISE}
    for name, images in (("noisy", noisy), ("restored", restored)):
        denoising[f"{name}_mse"] = float(np.square(flat(images) - pixels).mean())
    for name, images in (("clean", clean), ("noisy", noisy), ("restored", restored)):
        denoising[f"judged_{name}"] = _accuracy(judge, images, tested.labels) if judge else None
    metrics = AutoencoderMetrics(**figures)
    return Findings(metrics, intervals, density, train_latents, test_latents, reconstructed, denoising)


def validation_error(data: ImageData, graph: Path) -> float:
    """The mean squared error of an exported autoencoder on the selection half of validation."""
    selection, _ = data.division
    return float(run_in_batches(graph, "images", data.validation.take(selection).images)[1].mean())


def fit_density(latents: Floats, labels: Labels, classes: int, components: int = 10, seed: int = 0) -> Density:
    """A mixture of Gaussians with full covariances for each class, to sample new latents from.

    Ghosh et al. 2020 (arXiv:1903.12436): the latents of a deterministic autoencoder do not follow a simple prior, but
    a mixture fitted to them after the training describes them well (ex-post density estimation).

    Args:
        latents: of the training images, float32, shape (n, latent).
        labels: int64, shape (n,).
        classes: the number of classes; each has at least one image.
        components: Gaussians per class, or fewer where a class has few images.
        seed: of the fit.
    """
    weights, means, factors = [], [], []
    ridge = RIDGE * float(latents.var(0).mean())
    for label in range(classes):
        members = latents[labels == label].astype(np.float64)
        if len(members) == 1:
            members = members.repeat(2, axis=0)  # scikit-learn needs two; the ridge is then their variance
        # A covariance needs more points than dimensions.
        count = max(1, min(components, len(members) // (2 * latents.shape[1])))
        mixture = GaussianMixture(count, reg_covar=ridge, random_state=seed).fit(members)
        padding = (0, components - count)
        weights.append(np.pad(mixture.weights_, padding))
        means.append(np.pad(mixture.means_, (padding, (0, 0))))
        factors.append(np.pad(np.linalg.cholesky(mixture.covariances_), (padding, (0, 0), (0, 0))))
    fractions = np.bincount(labels, minlength=classes) / len(labels)
    return Density(*(np.array(part, dtype=np.float32) for part in (fractions, weights, means, factors)))


def add_noise(images: Images) -> Images:
    """The images with noise of standard deviation 0.3 on the 0 to 1 scale, the same at every call."""
    noise = np.random.default_rng(0).normal(0, 255 * _NOISE, images.shape)
    return (images + noise).clip(0, 255).astype(np.uint8)


def bounded(split: ImageSplit) -> ImageSplit:
    """Images at regular intervals, of at most `_MOST_PIXELS` values."""
    return split.take(np.arange(0, len(split), 1 + split.images.size // _MOST_PIXELS))


def flat(images: Images) -> Floats:
    """Pixels in 0 to 1, float32, shape (n, height * width * channels)."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def frechet_distance(one: Floats, other: Floats) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features, shapes (n, features) and (m, features).

    Heusel et al. 2017, arXiv:1706.08500.
    """
    mean, other_mean = one.mean(0, dtype=np.float64), other.mean(0, dtype=np.float64)
    covariance, other_covariance = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    # The trace of the product's square root only needs its eigenvalues: real and, but for rounding, non-negative.
    values = np.linalg.eigvals(covariance @ other_covariance).real.clip(min=0)
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(values).sum()
    return float(np.square(mean - other_mean).sum() + spread)


def linear_accuracy(train: Floats, train_labels: Labels, test: Floats, test_labels: Labels) -> float:
    """Test accuracy of logistic regression on the standardised features."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    return float(model.fit(train, train_labels).score(test, test_labels))


def nearest(images: Images, among: SplitImages) -> tuple[Labels, Floats]:
    """For each image the index of the nearest of other images, and the mean squared difference from it.

    Of very many others, only those at regular intervals are searched.
    """
    step = 1 + among.size // _MOST_PIXELS
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat(among[::step]))
    distances, indices = search.kneighbors(flat(images))
    return indices[:, 0] * step, np.square(distances[:, 0]) / images[0].size
