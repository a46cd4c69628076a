"""A convolutional network for small images, and the input normalisation that every image network has."""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data.images import ImageSplit


def stride_for(height: int, width: int) -> int:
    """The stride of the first convolution: 1 for images up to 95 pixels, 2 up to 191, and so on."""
    return int(2 ** max(0, math.floor(math.log2(min(height, width) / 48))))


def sample(split: ImageSplit, pixels: int = 5_000_000) -> npt.NDArray[np.uint8]:
    """Evenly spaced images of a split with about `pixels` pixels altogether, for statistics."""
    height, width = split.images.shape[1:3]
    step = max(1, len(split) * height * width // pixels)
    return split.images[::step]


class Normalize(nn.Module):
    """Shifts and scales each channel by its mean and standard deviation on the 0 to 1 scale."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    @classmethod
    def of(cls, split: ImageSplit) -> "Normalize":
        """Normalises with the statistics of a sample of the split."""
        pixels = sample(split).reshape(-1, split.images.shape[-1]) / np.float32(255)
        # A constant channel must not divide by zero.
        return cls(torch.from_numpy(pixels.mean(0)), torch.from_numpy(pixels.std(0).clip(min=1e-3)))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


class ConvGroup(nn.Module):
    """Convolutions at one resolution: the first halves it, the others are a residual block.

    The group of Jordan 2024 (arXiv:2404.00498): pooling comes before the normalisation, so that
    everything after it costs a quarter.
    """

    def __init__(self, channels_in: int, channels_out: int, depth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels_in if i == 0 else channels_out, channels_out, 3, padding=1, bias=False)
            for i in range(depth)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels_out) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = shortcut = F.silu(self.norms[0](F.max_pool2d(self.convs[0](x), 2)))
        for i in range(1, len(self.convs)):
            x = self.norms[i](self.convs[i](x))
            x = F.silu(x + shortcut if i == len(self.convs) - 1 else x)
        return x


class CNN(nn.Module):
    """A residual convolutional network for small images, after airbench (arXiv:2404.00498).

    A frozen 2x2 convolution whitens the patches; then come groups of convolutions, global max pooling and a linear
    layer. In large images the patches are larger and do not overlap (`stride_for`), which limits the cost.

    Args:
        normalize: the input normalisation.
        shape: height, width, channels.
        classes: how many there are.
        widths: filters of each group; for images over 48 pixels the last one repeats until a few pixels are left.
        depth: convolutions per group.
        dropout: of the last features.
    """

    def __init__(
        self,
        normalize: Normalize,
        shape: tuple[int, int, int],
        classes: int,
        widths: tuple[int, ...] = (64, 256, 256),
        depth: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        height, width, channels = shape
        stride = stride_for(height, width)
        side = min(height, width) // stride
        if side > 48:
            widths += widths[-1:] * max(0, math.floor(math.log2(side / 6)) - len(widths) + 1)
        if side < 2 ** (len(widths)) + 1:
            raise ValueError(f"images of {height} x {width} pixels are too small for {len(widths)} groups")
        patch = max(2, stride)
        filters = 2 * channels * patch**2
        self.normalize = normalize
        self.whiten = nn.Conv2d(channels, filters, patch, stride)
        self.whiten.weight.requires_grad = False
        self.groups = nn.Sequential(
            *(ConvGroup(before, after, depth) for before, after in zip((filters, *widths), widths, strict=False))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    @torch.no_grad()
    def init_whiten(self, pixels: Tensor, eps: float = 5e-4) -> None:
        """Sets the first convolution to the eigenvectors of the training patches, both signs.

        Args:
            pixels: float32 in 0 to 1, shape (some thousands, channels, height, width).
            eps: limits the gain of directions without variance.
        """
        (stride, _), (patch, _) = self.whiten.stride, self.whiten.kernel_size
        patches = F.unfold(self.normalize(pixels), patch, stride=stride).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / torch.sqrt(values + eps)).T.reshape(-1, *self.whiten.weight.shape[1:])
        self.whiten.weight.copy_(torch.cat((filters, -filters)))
        nn.init.zeros_(self.whiten.bias)  # type: ignore[arg-type]

    def features(self, pixels: Tensor) -> Tensor:
        """The input of the last layer, shape (batch, widths[-1])."""
        x = F.silu(self.whiten(self.normalize(pixels)))
        return self.groups(x).amax(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(pixels)))
