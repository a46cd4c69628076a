"""The tasks of an autoencoder's three models: the whole, its encoder and its decoder."""

from pathlib import Path

from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.generate import GENERATE
from service.tasks.autoencoder.manifest import DENSITY, AutoencoderManifest, DecoderManifest, EncoderManifest
from service.tasks.autoencoder.operations import DECODE, ENCODE, RECONSTRUCT
from service.tasks.base import Task


def read_density(folder: Path) -> Density:
    """What new latents are drawn from."""
    return Density.load(folder / DENSITY)


AUTOENCODER = Task("autoencoder", AutoencoderManifest, (RECONSTRUCT,))
ENCODER = Task("encoder", EncoderManifest, (ENCODE,))
DECODER = Task("decoder", DecoderManifest, (GENERATE, DECODE), read_density)
