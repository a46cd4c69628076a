"""A convolutional autoencoder: images to a small latent vector and back."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.autoencoder.options import NetworkSettings


class Residual(nn.Module):
    """Two convolutions with a skip connection (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.body(x))


def halvings(shape: tuple[int, int, int], levels: int) -> list[tuple[int, int]]:
    """Height and width of an image, and after each of `levels` halvings, rounded up."""
    return [(-(-shape[0] // 2**level), -(-shape[1] // 2**level)) for level in range(levels + 1)]


class Encoder(nn.Module):
    """Float pixels in 0 to 1, shape (batch, channels, height, width), to latents, shape (batch, latent)."""

    def __init__(self, shape: tuple[int, int, int], latent: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = shape[2]
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU(), Residual(width)]
            before = width
        self.body = nn.Sequential(*layers)
        # A convolution over the whole map: like a dense layer, but its result does not depend on the batch size.
        self.code = nn.Conv2d(before, latent, halvings(shape, len(widths))[-1])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.code(self.body(pixels)).flatten(1)


class Decoder(nn.Module):
    """Latents, shape (batch, latent), to float pixels in 0 to 1, shape (batch, channels, height, width)."""

    def __init__(self, shape: tuple[int, int, int], latent: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = halvings(shape, len(widths))[-2::-1]
        self.first = nn.ConvTranspose2d(latent, widths[-1], halvings(shape, len(widths))[-1])
        outer = (*reversed(widths[:-1]), max(8, widths[0] // 2))
        self.start = Residual(widths[-1])
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.SiLU(),
                # At full resolution another block would cost more than everything else.
                *([Residual(after)] if index < len(widths) - 1 else []),
            )
            for index, (before, after) in enumerate(zip(reversed(widths), outer, strict=True))
        )
        self.last = nn.Conv2d(outer[-1], shape[2], 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.start(self.first(latents[:, :, None, None]))
        for size, stage in zip(self.sizes, self.stages, strict=True):
            x = stage(F.interpolate(x, size=size, mode="nearest"))
        return torch.sigmoid(self.last(x))


class Autoencoder(nn.Module):
    """An encoder and its decoder.

    Args:
        shape: height, width, channels of the images.
        latent: dimension of the latent space.
        widths: channels after each halving.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int = 32, widths: tuple[int, ...] = (32, 64)) -> None:
        super().__init__()
        if min(shape[:2]) < 2 ** len(widths):
            raise ValueError(f"images of {shape[0]} x {shape[1]} pixels are too small for {len(widths)} halvings")
        self.latent = latent
        self.encoder = Encoder(shape, latent, widths)
        self.decoder = Decoder(shape, latent, widths)

    def forward(self, pixels: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reconstructed pixels and latents; `noise`, shaped as the latents, is added before decoding."""
        latents = self.encoder(pixels)
        return self.decoder(latents if noise is None else latents + noise), latents


def build(network: NetworkSettings, shape: tuple[int, int, int], seed: int) -> Autoencoder:
    """The network for images of `shape`, with weights initialised from `seed`."""
    torch.manual_seed(seed)
    return Autoencoder(shape, network.latent, network.widths)
