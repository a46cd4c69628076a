"""How good an autoencoder is: what it restores, what it invents, and what its code is worth."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Floats = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judge:
    """A classifier of real images that judges invented ones.

    Attributes:
        accuracy: on the real test images.
        classify: uint8 images to classes, int64, shape (n,).
        features: uint8 images to what its last layer sees, float32, shape (n, features).
    """

    accuracy: float
    classify: Callable[[Images], Labels]
    features: Callable[[Images], Floats]


def flat(images: Images) -> Floats:
    """Pixels as numbers in 0 to 1, shape (n, height * width * channels)."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def pca_error(train: Images, test: Images, numbers: int) -> float:
    """Mean squared error on the 0 to 1 scale of restoring from so many principal components."""
    pixels, known = flat(test), flat(train)
    pca = PCA(min(numbers, *known.shape), random_state=0).fit(known)
    return float(np.square(pca.inverse_transform(pca.transform(pixels)) - pixels).mean())


def frechet_distance(one: Floats, other: Floats) -> float:
    """Frechet distance between Gaussians fitted to two sets of features (Heusel et al. 2017, arXiv:1706.08500).

    Args:
        one: shape (n, features).
        other: shape (m, features).
    """
    mean, other_mean = one.mean(0, dtype=np.float64), other.mean(0, dtype=np.float64)
    covariance, other_covariance = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    # The trace of a product's root needs its eigenvalues alone, which are real and not negative but for rounding.
    values = np.linalg.eigvals(covariance @ other_covariance).real.clip(min=0)
    spread = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(values).sum()
    return float(np.square(mean - other_mean).sum() + spread)


def linear_accuracy(train: Floats, train_labels: Labels, test: Floats, test_labels: Labels) -> float:
    """Test accuracy of logistic regression on features as they are, standardised."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    return float(model.fit(train, train_labels).score(test, test_labels))


def nearest(images: Images, among: Images, chunk: int = 200) -> tuple[Labels, Floats]:
    """For each image the place of the nearest of others, and the mean squared difference from it.

    Args:
        images: shape (n, height, width, channels).
        among: shape (m, height, width, channels).
        chunk: images at a time, which bounds the memory.
    """
    others = flat(among)
    squares = np.square(others).sum(1)
    places, distances = [], []
    for start in range(0, len(images), chunk):
        part = flat(images[start : start + chunk])
        gaps = squares[None] - 2 * part @ others.T
        best = gaps.argmin(1)
        places.append(best)
        distances.append(np.square(part - others[best]).mean(1))
    return np.concatenate(places), np.concatenate(distances)
