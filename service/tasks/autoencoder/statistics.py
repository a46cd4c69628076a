"""What is counted of an autoencoder and its encoder: the look of the images, and how well they fit the latents."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.tasks.autoencoder.manifest import AutoencoderManifest, EncoderManifest
from service.tasks.base import Statistic, Statistics, Values
from service.tasks.statistics import IMAGE_STATISTICS, measure_images, measure_typicality, typicality_statistics


def of_autoencoder(manifest: AutoencoderManifest) -> tuple[Statistic, ...]:
    """See `service.tasks.base.Statistics`."""
    return (*IMAGE_STATISTICS, Statistic("answer", "error"), *typicality_statistics(manifest))


def measure_autoencoder(manifest: AutoencoderManifest, images: Sequence[Any], rows: Sequence[Any]) -> list[Values]:
    """See `service.tasks.base.Statistics`. The error is the mean squared one of each restored image."""
    errors = np.array([row[1] for row in rows], np.float64)
    return [*measure_images(images), Values(errors), *measure_typicality(manifest, rows)]


def of_encoder(manifest: EncoderManifest) -> tuple[Statistic, ...]:
    """See `service.tasks.base.Statistics`."""
    return (*IMAGE_STATISTICS, Statistic("answer", "latent norm"), *typicality_statistics(manifest))


def measure_encoder(manifest: EncoderManifest, images: Sequence[Any], rows: Sequence[Any]) -> list[Values]:
    """See `service.tasks.base.Statistics`."""
    norms = np.linalg.norm(np.stack([row[0] for row in rows]).astype(np.float64), axis=1)
    return [*measure_images(images), Values(norms), *measure_typicality(manifest, rows)]


AUTOENCODER = Statistics(of_autoencoder, measure_autoencoder)
ENCODER = Statistics(of_encoder, measure_encoder)
