"""A summary of the latent space: class means and principal directions."""

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from service.tasks.autoencoder.density import Density

_DIRECTIONS = 8
_DIGITS = 4


class Direction(BaseModel):
    """A principal direction of the latents (Pearson 1901)."""

    vector: list[float] = Field(description="of length 1")
    std: float = Field(description="standard deviation of the latents along it")
    explained: float = Field(description="share of the latents' variance, 0 to 1")


class LatentSpace(BaseModel):
    """Points of the latent space to begin with, and directions to move in."""

    mean: list[float] = Field(description="of all latents")
    classes: list[list[float]] = Field(description="the mean of each class, in the order of the labels")
    directions: list[Direction] = Field(description="the principal ones, by falling variance")


def latent_space(density: Density) -> LatentSpace:
    """Means and principal directions of the mixture that new latents are drawn from."""
    weights = density.weights.astype(np.float64)
    within = weights / weights.sum(1, keepdims=True)  # shape (classes, components)
    share = within * (density.classes / density.classes.sum())[:, None]
    means, factors = density.means.astype(np.float64), density.factors.astype(np.float64)
    mean = np.einsum("ck,ckl->l", share, means)
    away = means - mean
    # The covariance of a mixture: within components plus between their means.
    covariance = np.einsum("ck,ckij,cklj->il", share, factors, factors) + np.einsum("ck,cki,ckj->ij", share, away, away)
    variances, vectors = np.linalg.eigh(covariance)
    order = variances.argsort()[::-1][:_DIRECTIONS]
    return LatentSpace(
        mean=_rounded(mean),
        classes=[_rounded(row) for row in np.einsum("ck,ckl->cl", within, means)],
        directions=[
            Direction(
                vector=_rounded(_oriented(vectors[:, index])),
                std=round(float(variances[index]) ** 0.5, _DIGITS),
                explained=round(float(variances[index] / variances.sum()), _DIGITS),
            )
            for index in order
        ],
    )


def _oriented(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Makes the largest entry positive, since an eigenvector's sign is arbitrary."""
    return vector if vector[np.abs(vector).argmax()] > 0 else -vector


def _rounded(values: npt.NDArray[np.float64]) -> list[float]:
    rounded: list[float] = values.round(_DIGITS).tolist()
    return rounded
