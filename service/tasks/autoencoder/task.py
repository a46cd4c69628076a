"""The tasks of an autoencoder's three models: the whole, its encoder and its decoder."""

from collections.abc import Mapping
from typing import Any

import pydantic_core

from service.tasks.autoencoder import agreement, statistics
from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.generate import GENERATE
from service.tasks.autoencoder.manifest import DENSITY, AutoencoderManifest, DecoderManifest, EncoderManifest
from service.tasks.autoencoder.operations import DECODE, ENCODE, RECONSTRUCT
from service.tasks.autoencoder.space import latent_space
from service.tasks.base import Sample, Task
from service.tasks.samples import image_samples


def latent_samples(inputs: Mapping[str, Any], manifest: DecoderManifest, companion: Density) -> list[Sample]:  # noqa: ARG001
    """The latents of the golden file, as JSON documents."""
    (latents,) = (inputs[spec.name] for spec in manifest.inputs)
    documents = [{"latents": [[round(value, 6) for value in row]]} for row in latents.tolist()]
    return [Sample("application/json", pydantic_core.to_json(each), row) for row, each in enumerate(documents)]


AUTOENCODER = Task(
    "autoencoder",
    AutoencoderManifest,
    (RECONSTRUCT,),
    samples=image_samples,
    agreement=agreement.AUTOENCODER,
    statistics=statistics.AUTOENCODER,
)
ENCODER = Task(
    "encoder",
    EncoderManifest,
    (ENCODE,),
    samples=image_samples,
    agreement=agreement.ENCODER,
    statistics=statistics.ENCODER,
)
DECODER = Task(
    "decoder",
    DecoderManifest,
    (GENERATE, DECODE),
    read_companion=lambda folder: Density.load(folder / DENSITY),
    samples=latent_samples,
    details=latent_space,
    agreement=agreement.DECODER,
)
