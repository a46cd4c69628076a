"""What an autoencoder learns: to reconstruct images from latents that can be sampled. See `Learner`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from training.autoencoder.network import Autoencoder, to_bytes
from training.autoencoder.options import ReconstructionSettings
from training.data.augment import Augment, to_pixels
from training.data.lazy import Images, LazyImages
from training.engine.learner import Batch, Learner, Step
from training.engine.loader import batch_of
from training.engine.processes import in_parts

_BATCH = 500


class Reconstruction(Learner):
    """Learns from `train` and validates on `validation`: uint8 images, shape (n, height, width, channels)."""

    unit = "images"
    score = "score"

    def __init__(self, train: Images, validation: Images, settings: ReconstructionSettings) -> None:
        self._images, self._validation, self._settings = train, validation, settings
        self.decodes = isinstance(train, LazyImages)
        self._shift = Augment(flip=False, translate=max(1, round(0.07 * train.shape[1])), cutout=0)

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:
        return {"images": batch_of(self._images, items), "items": items}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the mean squared error on the 0 to 1 scale."""
        images, settings = batch["images"], self._settings
        pixels = to_pixels(images)
        inner: Any = getattr(network, "module", network)  # several GPUs wrap it
        noise = torch.randn((len(images), inner.latent), generator=step.rng, device=step.device) * settings.noise
        reconstructed, latents = network(corrupt(pixels, settings.denoise, step.rng), noise)
        error = F.mse_loss(reconstructed.float(), pixels)
        loss = error + settings.shrink * latents.float().square().mean()
        if settings.consistency:
            # With noise of its own, so that batch normalisation sees the same kind of batch twice.
            shifted = corrupt(self._shift(images, batch["items"], step.epoch, step.rng), settings.denoise, step.rng)
            loss = loss + settings.consistency * F.mse_loss(inner.encoder(shifted).float(), latents.float())
        return loss, {"error": error}

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """The error on the validation images, a part of which has noise, the same every time."""
        assert isinstance(network, Autoencoder)  # noqa: S101 - only an autoencoder learns this
        with accelerator.autocast():
            errors = reconstruction_errors(network, self._validation, self._settings.denoise, accelerator)
        return {"error": float(errors.mean()), "score": 1 - float(errors.mean())}


def corrupt(pixels: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """The pixels with noise added to about half of the images, of a strength drawn for each.

    `most` is the largest standard deviation; `pixels` are floats in 0 to 1, shape (batch, channels, height, width).
    """
    if not most:
        return pixels
    strength = torch.rand((2, len(pixels), 1, 1, 1), generator=generator, device=pixels.device)
    noise = torch.randn(pixels.shape, generator=generator, device=pixels.device)
    return (pixels + torch.where(strength[0] < 0.5, most * strength[1], 0) * noise).clamp(0, 1)


def recompute_norms(network: Autoencoder, images: Images, denoise: float) -> None:
    """Recomputes the statistics of batch normalisation on training images; leaves the network in evaluation mode.

    Those from training come partly from shifted images and noisy latents, and from earlier weights.
    """
    generator = torch.Generator(next(network.parameters()).device).manual_seed(0)
    update_bn((corrupt(to_pixels(part), denoise, generator) for part in _batches(network, images)), network)
    network.eval()


@torch.no_grad()
def encode(network: Autoencoder, images: Images) -> npt.NDArray[np.float32]:
    """Latents, float32, shape (n, latent), of uint8 images (n, height, width, channels)."""
    encoder = network.encoder.eval()
    return torch.cat([encoder(to_pixels(part)).float().cpu() for part in _batches(network, images)]).numpy()


@torch.no_grad()
def decode(network: Autoencoder, latents: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """uint8 images, shape (n, height, width, channels), of latents (n, latent)."""
    decoder = network.decoder.eval()
    return torch.cat([to_bytes(decoder(part).float()).cpu() for part in _batches(network, latents)]).numpy()


@torch.no_grad()
def reconstruction_errors(
    network: Autoencoder, images: Images, denoise: float = 0.0, accelerator: Accelerator | None = None
) -> npt.NDArray[np.float32]:
    """The mean squared error of each image on the 0 to 1 scale, shape (n,), before rounding to bytes.

    With `denoise` (see `ReconstructionSettings`) a part of the images is encoded with noise. The network is left in
    evaluation mode.
    """
    network.eval()

    def errors(batches: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
        found = []
        for index in batches.tolist():
            (part,) = _batches(network, images[index * _BATCH : (index + 1) * _BATCH])
            pixels = to_pixels(part)
            # Seeded by the batch, so that the noise is the same however many processes there are.
            reconstructed, _ = network(corrupt(pixels, denoise, torch.Generator(part.device).manual_seed(index)))
            found.append((reconstructed.float() - pixels).square().mean((1, 2, 3)).cpu().numpy())
        return found

    return np.concatenate(in_parts(accelerator, -(-len(images) // _BATCH), errors))


def _batches(network: Autoencoder, items: Any) -> Iterator[Tensor]:
    device = next(network.parameters()).device
    for start in range(0, len(items), _BATCH):
        yield torch.from_numpy(items[start : start + _BATCH]).to(device)
