"""The density of latents: a Gaussian mixture for each class, and reproducible draws from it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Density:
    """A mixture of Gaussians over latents for each class.

    Attributes:
        classes: prior of each class, shape (classes,).
        weights: of each class's Gaussians, shape (classes, components); 0 pads classes with fewer.
        means: shape (classes, components, latent).
        factors: Cholesky factors of the covariances (lower triangular), shape (classes, components, latent, latent).
    """

    classes: Floats
    weights: Floats
    means: Floats
    factors: Floats

    @classmethod
    def load(cls, path: Path) -> "Density":
        """Reads the file of `save`."""
        with path.open("rb") as file, np.load(file) as arrays:
            return cls(arrays["classes"], arrays["weights"], arrays["means"], arrays["factors"])

    def save(self, path: Path) -> None:
        """Writes an npz file."""
        np.savez_compressed(path, classes=self.classes, weights=self.weights, means=self.means, factors=self.factors)

    def draw(
        self, count: int, seed: int, label: int | None = None, temperature: float = 1.0
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The first `count` draws of `Draws`."""
        return Draws(self, seed, label, temperature).take(count)


class Draws:
    """A stream of latents drawn from a density, of the class with index `label` or of the prior.

    Item k depends only on the seed and k, not on how many items are taken or in how many parts. The temperature scales
    the distance from the Gaussians' means.
    """

    def __init__(self, density: Density, seed: int, label: int | None = None, temperature: float = 1.0) -> None:
        self._density = density
        self._label = label
        self._temperature = temperature
        # Disjoint random streams: one chooses class and Gaussian, the other draws from it.
        self._uniform = np.random.Generator(np.random.Philox(seed))
        self._normal = np.random.Generator(np.random.Philox(seed).jumped())

    def take(self, count: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The next latents, float32, shape (count, latent), and the class of each, int64, shape (count,)."""
        density = self._density
        uniform = self._uniform.random((count, 2))
        normal = self._normal.standard_normal((count, density.means.shape[-1]))
        if self._label is None:
            labels = _choose(np.broadcast_to(density.classes, (count, len(density.classes))), uniform[:, 0])
        else:
            labels = np.full(count, self._label, dtype=np.int64)
        components = _choose(density.weights[labels], uniform[:, 1])
        means, factors = density.means[labels, components], density.factors[labels, components]
        latents = means + self._temperature * np.einsum("nij,nj->ni", factors, normal)
        return latents.astype(np.float32), labels


def _choose(weights: npt.NDArray[np.float32], draws: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """For each row of weights an index, chosen by a uniform draw (inverse transform sampling)."""
    edges = np.cumsum(weights, axis=1, dtype=np.float64)
    chosen: npt.NDArray[np.int64] = (draws[:, None] * edges[:, -1:] >= edges).sum(1)
    return chosen
