"""How good an autoencoder is: its reconstructions, its generated images, and its latents as features."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.manifest import AutoencoderMetrics
from training.autoencoder.density import DensitySettings, fit_density
from training.data.images import ImageData, ImageSplit
from training.data.lazy import Images as SplitImages
from training.export.evaluator import run_in_batches
from training.export.intervals import Interval, bootstrap, wilson

MOST_PIXELS = 100_000_000
# Of the noise that is removed for trial: nearly a third of the range from black to white.
NOISE = 0.3
Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judge:
    """A classifier trained on real images that judges generated ones.

    Attributes:
        accuracy: on the real test images.
        classify: uint8 images to predicted classes, int64, shape (n,).
        features: uint8 images to the input of its last layer, float32, shape (n, features).
    """

    accuracy: float
    classify: Callable[[SplitImages], Labels]
    features: Callable[[SplitImages], Floats]


@dataclass(frozen=True, slots=True)
class Denoising:
    """What reconstruction makes of test images with noise of standard deviation `NOISE`, on the 0 to 1 scale.

    Attributes:
        noisy_mse: mean squared error of the noisy images.
        restored_mse: of their reconstructions.
        judged_clean: the fraction of the test images that the judge recognises; None without one, as are the others.
        judged_noisy: of the noisy ones; `judged_restored`: of their reconstructions.
    """

    noisy_mse: float
    restored_mse: float
    judged_clean: float | None
    judged_noisy: float | None
    judged_restored: float | None


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything measured, and what the report draws.

    Attributes:
        metrics: on the test split.
        intervals: 95 %, of the figures that are stated in one line.
        density: of the latents.
        train_latents: shape (n, latent).
        test_latents: likewise.
        reconstructed: the reconstructed test images, uint8.
        denoising: what it makes of noise.
        few: a row for each seed of the study of few images; empty without one.
    """

    metrics: AutoencoderMetrics
    intervals: dict[str, Interval]
    density: Density
    train_latents: Floats
    test_latents: Floats
    reconstructed: Images
    denoising: Denoising
    few: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Graphs:
    """The exported graphs of an autoencoder.

    Attributes:
        whole: images to reconstructions and errors.
        encoder: images to latents.
        decoder: latents to images.
    """

    whole: Path
    encoder: Path
    decoder: Path

    def encode(self, images: SplitImages) -> Floats:
        """Latents, float32, shape (n, latent)."""
        (latents,) = run_in_batches(self.encoder, "images", images)
        return latents

    def decode(self, latents: Floats) -> Images:
        """uint8 images, shape (n, height, width, channels)."""
        (images,) = run_in_batches(self.decoder, "latents", latents)
        return images

    def errors(self, images: SplitImages) -> Floats:
        """The mean squared error of each image on the 0 to 1 scale, shape (n,)."""
        _, errors = run_in_batches(self.whole, "images", images)
        return errors


def evaluate(
    graphs: Graphs,
    data: ImageData,
    judge: Judge | None,
    fitting: DensitySettings,
    generated: int,
    few: list[dict[str, float]],
) -> Findings:
    """Fits the density to the training images and measures everything on the test split.

    Args:
        graphs: exported.
        data: the images.
        judge: of generated images; None if the images have no labels.
        fitting: of the density.
        generated: how many images to generate.
        few: the rows of the study of few images; empty without one.
    """
    train_latents, test_latents = graphs.encode(data.train.images), graphs.encode(data.test.images)
    density = fit_density(train_latents, data.train.labels, len(data.classes), fitting)
    # PCA, logistic regression and the pictures hold all pixels in memory, whatever the number and size of the images.
    bounded, tested = _bounded(data.train), _bounded(data.test)
    reconstructed = graphs.decode(test_latents[: len(tested)])
    errors = graphs.errors(data.test.images)
    intervals = bootstrap(lambda chosen: {"mse": float(errors[chosen].mean())}, len(errors))
    metrics = AutoencoderMetrics(
        mse=float(errors.mean()),
        validation_mse=float(graphs.errors(data.validation.images).mean()),
        pca_mse=pca_error(bounded.images[:], tested.images[:], test_latents.shape[1]),
    )
    if judge:
        latents, labels = density.draw(generated, seed=fitting.seed)
        metrics = metrics.model_copy(
            update={
                "linear_latents": linear_accuracy(train_latents, data.train.labels, test_latents, data.test.labels),
                "linear_pixels": linear_accuracy(
                    flat(bounded.images[:]), bounded.labels, flat(tested.images[:]), tested.labels
                ),
                **_judged(judge, data, graphs.decode(latents), labels, reconstructed),
            }
        )
        intervals["judge_agreement"] = wilson(round((metrics.judge_agreement or 0) * generated), generated)
    denoising = measure_denoising(graphs, tested, judge)
    return Findings(metrics, intervals, density, train_latents, test_latents, reconstructed, denoising, few)


def add_noise(images: Images) -> Images:
    """The images with noise of standard deviation `NOISE`, the same at every call."""
    noise = np.random.default_rng(0).normal(0, 255 * NOISE, images.shape)
    return (images + noise).clip(0, 255).astype(np.uint8)


def measure_denoising(graphs: Graphs, split: ImageSplit, judge: Judge | None) -> Denoising:
    """What a model makes of noisy images; see `Denoising`."""
    clean = split.images[:]
    noisy = add_noise(clean)
    restored = graphs.decode(graphs.encode(noisy))
    errors = (float(np.square(flat(one) - flat(clean)).mean()) for one in (noisy, restored))
    judged = (
        float((judge.classify(one) == split.labels).mean()) if judge else None for one in (clean, noisy, restored)
    )
    return Denoising(*errors, *judged)


def _bounded(split: ImageSplit) -> ImageSplit:
    """Images at regular intervals, as many as may be held in memory."""
    return split.take(np.arange(0, len(split), 1 + split.images.size // MOST_PIXELS))


def _judged(
    judge: Judge, data: ImageData, generated: Images, labels: Labels, reconstructed: Images
) -> dict[str, float]:
    """The figures that need a judge."""
    # The distance depends on the number of images, so it is the same for each kind.
    count = min(len(generated), len(data.train), len(reconstructed))
    some = data.train.images[np.random.default_rng(0).permutation(len(data.train))[:count]]
    real = judge.features(data.test.images)
    return {
        "judge_accuracy": judge.accuracy,
        "judge_agreement": float((judge.classify(generated) == labels).mean()),
        "frechet_generated": frechet_distance(judge.features(generated[:count]), real),
        "frechet_restored": frechet_distance(judge.features(reconstructed[:count]), real),
        "frechet_train": frechet_distance(judge.features(some), real),
    }


def flat(images: Images) -> Floats:
    """Pixels in 0 to 1, float32, shape (n, height * width * channels)."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def pca_error(train: Images, test: Images, components: int) -> float:
    """Mean squared error, on the 0 to 1 scale, of the reconstruction from principal components."""
    pixels, known = flat(test), flat(train)
    pca = PCA(min(components, *known.shape), random_state=0).fit(known)
    return float(np.square(pca.inverse_transform(pca.transform(pixels)) - pixels).mean())


def frechet_distance(one: Floats, other: Floats) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, arXiv:1706.08500).

    Args:
        one: shape (n, features).
        other: shape (m, features).
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


def nearest(images: Images, among: SplitImages, chunk: int = 200) -> tuple[Labels, Floats]:
    """For each image the index of the nearest of other images, and the mean squared difference from it.

    Args:
        images: shape (n, height, width, channels).
        among: shape (m, height, width, channels).
        chunk: images at a time, which limits the memory.
    """
    # Of very many, those at regular intervals.
    step = 1 + among.size // MOST_PIXELS
    others = flat(among[::step])
    squares = np.square(others).sum(1)
    indices, distances = [], []
    for start in range(0, len(images), chunk):
        part = flat(images[start : start + chunk])
        gaps = squares[None] - 2 * part @ others.T
        best = gaps.argmin(1)
        indices.append(best)
        distances.append(np.square(part - others[best]).mean(1))
    return np.concatenate(indices) * step, np.concatenate(distances)
