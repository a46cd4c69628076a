"""The baseline of an autoencoder: principal components, as many as the latent space has dimensions."""

from functools import cache

import numpy as np
from sklearn.decomposition import PCA

from training.autoencoder.evaluation import Floats, bounded, flat
from training.baseline import Baseline
from training.data.images import ImageData, ImageSplit


def fit_components(data: ImageData, latent: int) -> Baseline:
    """PCA of the training images; its figure is the mean squared error of pixels in 0 to 1."""
    train = bounded(data.train)
    pca = fit_pca(flat(train.images[:]), latent)
    selection, _ = data.division

    def error(split: ImageSplit) -> float:
        return pca_error(pca, flat(bounded(split).images[:]))

    return Baseline(
        name=f"PCA of {latent} components",
        figure="mse",
        higher_is_better=False,
        validation=error(data.validation.take(selection)),
        items=len(train),
        test=cache(lambda: error(data.test)),
    )


def fit_pca(pixels: Floats, components: int) -> PCA:
    """Principal components of pixels as `flat` gives them; fewer than asked for if there are fewer images."""
    return PCA(min(components, *pixels.shape), random_state=0).fit(pixels)


def pca_error(pca: PCA, pixels: Floats) -> float:
    """Mean squared error of the reconstruction from the components."""
    return float(np.square(pca.inverse_transform(pca.transform(pixels)) - pixels).mean())
