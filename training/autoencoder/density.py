"""A density over latents, fitted after the training, to sample new ones from (ex-post density estimation).

Ghosh et al. 2020 (arXiv:1903.12436): the latents of a deterministic autoencoder do not follow a simple prior; a mixture
of Gaussians fitted to them afterwards describes them well. Here there is one mixture for each class.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.mixture import GaussianMixture

from service.tasks.autoencoder.density import Density

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DensitySettings:
    """How the density is fitted.

    Attributes:
        components: Gaussians per class.
        ridge: added to the diagonal of every covariance, as a fraction of the latents' mean variance.
        seed: of the fit.
    """

    components: int = 10
    ridge: float = 1e-3
    seed: int = 0


def fit_density(latents: Floats, labels: npt.NDArray[np.int64], classes: int, settings: DensitySettings) -> Density:
    """A mixture of Gaussians with full covariances for each class.

    Args:
        latents: of the training images, shape (n, latent).
        labels: int64, shape (n,).
        classes: the number of classes; each has at least one image.
        settings: of the fit.
    """
    weights, means, factors = [], [], []
    ridge = settings.ridge * float(latents.var(0).mean())
    for label in range(classes):
        mine = latents[labels == label].astype(np.float64)
        if len(mine) == 1:
            mine = mine.repeat(2, axis=0)  # the library needs two; the ridge is then their variance
        # A covariance needs more points than dimensions; with few images a single Gaussian has to do.
        count = max(1, min(settings.components, len(mine) // (2 * latents.shape[1])))
        mixture = GaussianMixture(count, reg_covar=ridge, random_state=settings.seed).fit(mine)
        padding = settings.components - count
        weights.append(np.pad(mixture.weights_, (0, padding)))
        means.append(np.pad(mixture.means_, ((0, padding), (0, 0))))
        factors.append(np.pad(np.linalg.cholesky(mixture.covariances_), ((0, padding), (0, 0), (0, 0))))
    share = np.bincount(labels, minlength=classes) / len(labels)
    return Density(
        share.astype(np.float32),
        np.array(weights, dtype=np.float32),
        np.array(means, dtype=np.float32),
        np.array(factors, dtype=np.float32),
    )
