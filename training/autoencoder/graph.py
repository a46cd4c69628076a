"""Three graphs that share their weights: images to reconstructions, images to latents, latents to images."""

import torch
from torch import Tensor, nn

from training.autoencoder.learner import to_bytes
from training.autoencoder.network import Autoencoder
from training.data.augment import to_pixels


class AutoencoderGraph(nn.Module):
    """uint8 images (batch, height, width, channels) to reconstructions and the mean squared error of each (0 to 1)."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = to_pixels(images)
        reconstructed, _ = self.network(pixels)
        return to_bytes(reconstructed), (reconstructed - pixels).square().mean((1, 2, 3))


class EncoderGraph(nn.Module):
    """uint8 images (batch, height, width, channels) to latents (batch, latent), float32."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.encoder = network.encoder

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.encoder(to_pixels(images)))


class DecoderGraph(nn.Module):
    """Latents (batch, latent), float32, to uint8 images (batch, height, width, channels)."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(self, latents: Tensor) -> Tensor:
        return to_bytes(torch.as_tensor(self.decoder(latents)))
