"""A convolutional autoencoder: images to a small latent vector and back; and the three graphs that are exported."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.augment import to_pixels


def _convolution(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.SiLU()]


class Residual(nn.Module):
    """Two convolutions with a skip connection (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(channels, channels), *_convolution(channels, channels)[:-1])

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
        for before, width in zip((shape[2], *widths), widths, strict=False):
            layers += [*_convolution(before, width, stride=2), Residual(width)]
        self.body = nn.Sequential(*layers)
        # A convolution over the whole map: like a dense layer, but its result does not depend on the batch size.
        self.code = nn.Conv2d(widths[-1], latent, halvings(shape, len(widths))[-1])

    def forward(self, pixels: Tensor) -> Tensor:
        return self.code(self.body(pixels)).flatten(1)


class Decoder(nn.Module):
    """Latents, shape (batch, latent), to float pixels in 0 to 1, shape (batch, channels, height, width)."""

    def __init__(self, shape: tuple[int, int, int], latent: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        *sizes, smallest = halvings(shape, len(widths))
        self.sizes = sizes[::-1]
        self.first = nn.ConvTranspose2d(latent, widths[-1], smallest)
        self.start = Residual(widths[-1])
        before, stages = widths[-1], []
        for after in reversed(widths[:-1]):
            stages.append(nn.Sequential(*_convolution(before, after), Residual(after)))
            before = after
        # At full resolution another block would cost more than everything else.
        last = max(8, widths[0] // 2)
        self.stages = nn.ModuleList([*stages, nn.Sequential(*_convolution(before, last))])
        self.last = nn.Conv2d(last, shape[2], 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.start(self.first(latents[:, :, None, None]))
        for size, stage in zip(self.sizes, self.stages, strict=True):
            x = stage(F.interpolate(x, size=size, mode="nearest"))
        return torch.sigmoid(self.last(x))


class Autoencoder(nn.Module):
    """An encoder and its decoder, for images of `shape` (height, width, channels); see `NetworkSettings`."""

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


def to_bytes(pixels: Tensor) -> Tensor:
    """Float pixels in 0 to 1 (batch, channels, height, width) to uint8 (batch, height, width, channels)."""
    return (pixels * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


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
        return self.encoder(to_pixels(images))


class DecoderGraph(nn.Module):
    """Latents (batch, latent), float32, to uint8 images (batch, height, width, channels)."""

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(self, latents: Tensor) -> Tensor:
        return to_bytes(self.decoder(latents))
