"""How good an autoencoder is: its reconstructions, its generated images, and its latents as features."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.manifest import AutoencoderMetrics
from training.autoencoder.density import fit_density
from training.autoencoder.judge import Judge
from training.data.images import ImageData, ImageSplit
from training.data.lazy import Images as SplitImages
from training.export.evaluator import run_in_batches
from training.export.figures import Interval, bootstrap, wilson

MOST_PIXELS = 100_000_000
# Standard deviation of the noise that denoising is measured with, on the 0 to 1 scale.
NOISE = 0.3
Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Denoising:
    """What reconstruction makes of test images with noise of standard deviation `NOISE`, on the 0 to 1 scale.

    Attributes:
        noisy_mse: mean squared error of the noisy images.
        restored_mse: of their reconstructions.
        judged_clean: accuracy of the judge on the test images; None without one, as are the others.
        judged_noisy: on the noisy ones.
        judged_restored: on their reconstructions.
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
        intervals: 95 %, of the main figures.
        density: of the latents.
        train_latents: shape (n, latent).
        test_latents: shape (m, latent).
        reconstructed: reconstructed test images, uint8.
        denoising: of test images.
    """

    metrics: AutoencoderMetrics
    intervals: dict[str, Interval]
    density: Density
    train_latents: Floats
    test_latents: Floats
    reconstructed: Images
    denoising: Denoising


@dataclass(frozen=True, slots=True)
class Graphs:
    """The exported graphs of an autoencoder."""

    whole: Path
    encoder: Path
    decoder: Path

    def encode(self, images: SplitImages) -> Floats:
        """Latents, float32, shape (n, latent)."""
        return run_in_batches(self.encoder, "images", images)[0]

    def decode(self, latents: Floats) -> Images:
        """uint8 images, shape (n, height, width, channels)."""
        return run_in_batches(self.decoder, "latents", latents)[0]

    def errors(self, images: SplitImages) -> Floats:
        """The mean squared error of each image on the 0 to 1 scale, shape (n,)."""
        return run_in_batches(self.whole, "images", images)[1]


def evaluate(
    graphs: Graphs, data: ImageData, judge: Judge | None, components: int, generated: int, seed: int
) -> Findings:
    """Fits the density to the training images and measures everything on the test split.

    Args:
        graphs: exported.
        data: the images.
        judge: of generated images; None if the images have no labels.
        components: Gaussians per class of the density.
        generated: how many images to generate.
        seed: of the density and of the generated images.
    """
    train, test = data.train, data.test
    train_latents, test_latents = graphs.encode(train.images), graphs.encode(test.images)
    density = fit_density(train_latents, train.labels, len(data.classes), components, seed)
    # PCA, logistic regression and the pictures hold all pixels in memory.
    some, tested = _bounded(train), _bounded(test)
    known, pixels = flat(some.images[:]), flat(tested.images[:])
    reconstructed = graphs.decode(test_latents[: len(tested)])
    errors = graphs.errors(test.images)
    intervals = bootstrap(lambda chosen: {"mse": float(errors[chosen].mean())}, len(errors))
    figures = {
        "mse": float(errors.mean()),
        "validation_mse": float(graphs.errors(data.validation.images).mean()),
        "pca_mse": pca_error(known, pixels, test_latents.shape[1]),
    }
    if judge:
        latents, labels = density.draw(generated, seed=seed)
        images = graphs.decode(latents)
        right = int((judge.classify(images) == labels).sum())
        intervals["judge_agreement"] = wilson(right, generated)
        # The distance depends on the number of images, so it is the same for each kind.
        count = min(generated, len(train), len(reconstructed))
        real = judge.features(test.images)
        others = train.images[np.random.default_rng(0).permutation(len(train))[:count]]
        figures |= {
            "linear_latents": linear_accuracy(train_latents, train.labels, test_latents, test.labels),
            "linear_pixels": linear_accuracy(known, some.labels, pixels, tested.labels),
            "judge_accuracy": judge.accuracy(test.images, test.labels),
            "judge_agreement": right / generated,
            "frechet_generated": frechet_distance(judge.features(images[:count]), real),
            "frechet_restored": frechet_distance(judge.features(reconstructed[:count]), real),
            "frechet_train": frechet_distance(judge.features(others), real),
        }
    return Findings(
        AutoencoderMetrics(**figures), intervals, density, train_latents, test_latents, reconstructed,
        measure_denoising(graphs, tested, judge),
    )  # fmt: skip


def add_noise(images: Images) -> Images:
    """The images with noise of standard deviation `NOISE`, the same at every call."""
    noise = np.random.default_rng(0).normal(0, 255 * NOISE, images.shape)
    return (images + noise).clip(0, 255).astype(np.uint8)


def measure_denoising(graphs: Graphs, split: ImageSplit, judge: Judge | None) -> Denoising:
    """What a model makes of noisy images."""
    clean = split.images[:]
    noisy = add_noise(clean)
    restored = graphs.decode(graphs.encode(noisy))
    errors = (float(np.square(flat(images) - flat(clean)).mean()) for images in (noisy, restored))
    judged = (judge.accuracy(images, split.labels) if judge else None for images in (clean, noisy, restored))
    return Denoising(*errors, *judged)


def _bounded(split: ImageSplit) -> ImageSplit:
    """Images at regular intervals, of at most `MOST_PIXELS` values."""
    return split.take(np.arange(0, len(split), 1 + split.images.size // MOST_PIXELS))


def flat(images: Images) -> Floats:
    """Pixels in 0 to 1, float32, shape (n, height * width * channels)."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def pca_error(train: Floats, test: Floats, components: int) -> float:
    """Mean squared error of the reconstruction from principal components, of pixels as `flat` gives them."""
    pca = PCA(min(components, *train.shape), random_state=0).fit(train)
    return float(np.square(pca.inverse_transform(pca.transform(test)) - test).mean())


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

    Args:
        images: shape (n, height, width, channels).
        among: shape (m, height, width, channels); of very many, those at regular intervals.
    """
    step = 1 + among.size // MOST_PIXELS
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(flat(among[::step]))
    distances, indices = search.kneighbors(flat(images))
    return indices[:, 0] * step, np.square(distances[:, 0]) / images[0].size
