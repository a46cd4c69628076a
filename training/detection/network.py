"""A light one-stage detector: a pretrained backbone, a feature pyramid, an anchor-free head.

In the line of FCOS (Tian et al. 2019, arXiv:1904.01355) and GFL (Li et al. 2020, arXiv:2006.04388): every place of
three feature maps says how likely an object of each class has it inside, and the distances to the object's four edges
as distributions. No anchors, one box a place.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks import Normalize, freeze

STRIDES = (8, 16, 32)
# An edge may lie up to 15 strides away from its place; the largest stride then spans 480 pixels each way.
BINS = 16


def conv_norm(channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class Separable(nn.Sequential):
    """A convolution in two steps, by place and by channel (Howard et al. 2017, arXiv:1704.04861)."""

    def __init__(self, channels: int, kernel: int = 5, stride: int = 1) -> None:
        super().__init__(conv_norm(channels, channels, kernel, stride, groups=channels), conv_norm(channels, channels))


class Pyramid(nn.Module):
    """Feature maps of one width that know of each other: down the scales, then up (PANet, arXiv:1803.01534)."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        levels = len(channels)
        self.lateral = nn.ModuleList(conv_norm(count, width) for count in channels)
        self.down = nn.ModuleList(Separable(width) for _ in range(levels - 1))
        self.shrink = nn.ModuleList(Separable(width, stride=2) for _ in range(levels - 1))
        self.up = nn.ModuleList(Separable(width) for _ in range(levels - 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for i in reversed(range(len(maps) - 1)):
            maps[i] = self.down[i](maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[2:], mode="nearest"))
        for i in range(len(maps) - 1):
            maps[i + 1] = self.up[i](maps[i + 1] + self.shrink[i](maps[i]))
        return maps


class Head(nn.Module):
    """What is where at one scale: class logits and the distributions of four distances, in towers of their own."""

    def __init__(self, width: int, classes: int, depth: int) -> None:
        super().__init__()
        logits = nn.Conv2d(width, classes, 1)
        # At first nearly every place is background; a head that says so does not have to learn it from its losses.
        nn.init.constant_(logits.bias, -math.log(99))  # type: ignore[arg-type]
        self.classes = nn.Sequential(*(Separable(width) for _ in range(depth)), logits)
        self.edges = nn.Sequential(*(Separable(width) for _ in range(depth)), nn.Conv2d(width, 4 * BINS, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(x).flatten(2).transpose(1, 2), self.edges(x).flatten(2).transpose(1, 2)


class Detector(nn.Module):
    """Args:
    backbone: a timm model; its last stages of strides 8, 16 and 32 are used.
    size: height and width of the images, multiples of 32.
    classes: how many.
    width: channels of the pyramid and of the head.
    depth: separable convolutions in each tower of the head.
    frozen: how many groups of the backbone's layers keep their weights and statistics (stem, then stages). The first
        ones see the image at its largest, so they cost most to train, and edges and colours are the same everywhere.
    """

    points: Tensor
    strides: Tensor

    def __init__(
        self, backbone: Any, size: tuple[int, int], classes: int, width: int = 96, depth: int = 2, frozen: int = 0
    ) -> None:
        super().__init__()
        if any(side % STRIDES[-1] for side in size):
            raise ValueError(f"the image size {size[0]}x{size[1]} must be of multiples of {STRIDES[-1]}")
        config, info = backbone.pretrained_cfg, list(backbone.feature_info)
        self.normalize = Normalize(torch.tensor(config["mean"]), torch.tensor(config["std"]))
        reductions = [stage["reduction"] for stage in info]
        if not set(STRIDES) <= set(reductions):
            raise ValueError(f"the backbone has feature maps of strides {reductions}; {STRIDES} are needed")
        self.stages = [max(i for i, reduction in enumerate(reductions) if reduction == stride) for stride in STRIDES]
        self.backbone = backbone
        self.frozen = freeze(backbone, frozen)
        self.backbone.prune_intermediate_layers(self.stages, prune_norm=True, prune_head=True)
        self.pyramid = Pyramid(tuple(info[stage]["num_chs"] for stage in self.stages), width)
        self.heads = nn.ModuleList(Head(width, classes, depth) for _ in STRIDES)
        points, strides = grid(size)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and edge logits of every place.

        Args:
            pixels: float in 0 to 1, shape (batch, 3, height, width).

        Returns:
            shape (batch, places, classes), and (batch, places, 4 * BINS): distances to left, top, right, bottom.
        """
        features = self.backbone.forward_intermediates(
            self.normalize(pixels), indices=self.stages, stop_early=True, intermediates_only=True
        )
        answers = [head(x) for head, x in zip(self.heads, self.pyramid(features), strict=True)]
        return torch.cat([logits for logits, _ in answers], 1), torch.cat([edges for _, edges in answers], 1)

    def decode(self, edges: Tensor) -> Tensor:
        """Boxes x_min, y_min, x_max, y_max in pixels, shape (batch, places, 4), from edge logits."""
        return decode(edges, self.points, self.strides)


def grid(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The centre (x, y) and the stride of every place, in pixels: shapes (places, 2) and (places, 1)."""
    points, strides = [], []
    for stride in STRIDES:
        y, x = (torch.arange(side // stride) * float(stride) + stride / 2 for side in size)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack((columns, rows), -1).reshape(-1, 2))
        strides.append(torch.full((len(points[-1]), 1), float(stride)))
    return torch.cat(points), torch.cat(strides)


def decode(edges: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """Boxes from edge logits: each distance is the mean of its distribution, in strides."""
    shares = edges.float().unflatten(-1, (4, BINS)).softmax(-1)
    distances = shares @ torch.arange(BINS, dtype=shares.dtype, device=shares.device) * strides
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)
