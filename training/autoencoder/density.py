"""A density over latents, fitted after the training, to sample new ones from (ex-post density estimation).

Ghosh et al. 2020 (arXiv:1903.12436): the latents of a deterministic autoencoder do not follow a simple prior; a mixture
of Gaussians fitted to them afterwards describes them well. Here each class has a mixture of its own.
"""

import numpy as np
import numpy.typing as npt
from sklearn.mixture import GaussianMixture

from service.tasks.autoencoder.density import Density

# Added to the diagonal of every covariance, as a fraction of the mean variance of the latents.
RIDGE = 1e-3


def fit_density(
    latents: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int, components: int = 10, seed: int = 0
) -> Density:
    """A mixture of Gaussians with full covariances for each class.

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
