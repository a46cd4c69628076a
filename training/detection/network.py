"""A light one-stage detector: a pretrained backbone, a feature pyramid, an anchor-free head.

After FCOS (Tian et al. 2019, arXiv:1904.01355) and GFL (Li et al. 2020, arXiv:2006.04388): every cell of three feature
maps predicts how likely its centre lies inside an object of each class, and the distances to the object's four edges as
distributions. There are no anchors, and one box per cell.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from training.backbones.cnn import Normalize
from training.backbones.registry import load_backbone
from training.detection.options import FROZEN, NetworkSettings

STRIDES = (8, 16, 32)
# An edge may lie up to 15 strides away from the centre of its cell: with the largest stride, 480 pixels.
BINS = 16


_Conv = partial(Conv2dNormActivation, norm_layer=nn.BatchNorm2d, activation_layer=nn.ReLU)


class Separable(nn.Sequential):
    """A depthwise separable convolution (Howard et al. 2017, arXiv:1704.04861)."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(_Conv(channels, channels, 5, stride, groups=channels), _Conv(channels, channels, 1))


class Pyramid(nn.Module):
    """A feature pyramid: top-down, then bottom-up aggregation of the scales (PANet, arXiv:1803.01534)."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        levels = len(channels)
        self.lateral = nn.ModuleList(_Conv(count, width, 1) for count in channels)
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
    """Predictions at one scale: class logits and the distributions of four distances, in separate towers."""

    def __init__(self, width: int, classes: int, depth: int) -> None:
        super().__init__()
        logits = nn.Conv2d(width, classes, 1)
        # Nearly every cell is background; a head that starts by predicting that need not learn it from its losses.
        nn.init.constant_(logits.bias, -math.log(99))  # type: ignore[arg-type]
        self.classes = nn.Sequential(*(Separable(width) for _ in range(depth)), logits)
        self.edges = nn.Sequential(*(Separable(width) for _ in range(depth)), nn.Conv2d(width, 4 * BINS, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.classes(x).flatten(2).transpose(1, 2), self.edges(x).flatten(2).transpose(1, 2)


class CellNetwork(nn.Module):
    """Predicts class logits and box logits of every cell; see `Detector.forward`.

    Attributes:
        size: height and width of the images.
    """

    size: tuple[int, int]


class Detector(CellNetwork):
    """The whole detector, from normalised pixels to the predictions of every cell.

    Args:
        settings: its backbone's last stages of strides 8, 16 and 32 are used. The frozen ones work at the highest
            resolution, so they would cost most to train.
        size: height and width of the images, multiples of 32.

    Raises:
        ValueError: the backbone has no such feature maps, or cannot recompute.
    """

    points: Tensor
    strides: Tensor

    def __init__(self, settings: NetworkSettings, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        if any(side % STRIDES[-1] for side in size):
            raise ValueError(f"the image size {size[0]}x{size[1]} must be of multiples of {STRIDES[-1]}")
        self.size = size
        backbone = load_backbone(settings.backbone, settings.weights)
        self.normalize = Normalize(torch.tensor(backbone.mean), torch.tensor(backbone.std))
        self.stages = backbone.stages_of(STRIDES)
        self.backbone: Any = backbone.module
        self.frozen = backbone.freeze(FROZEN if settings.freeze is None else settings.freeze)
        backbone.prune(self.backbone, self.stages)
        self._read, self._recompute = backbone.read, settings.recompute
        if settings.recompute:  # Chen et al. 2016, arXiv:1604.06174
            if not hasattr(self.backbone, "set_grad_checkpointing"):
                raise ValueError("--recompute: the backbone cannot; most of timm's can")
            for norm in self.backbone.modules():
                if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                    norm.register_forward_pre_hook(partial(_update_once, momentum=norm.momentum))
        self.pyramid = Pyramid(tuple(backbone.stages[stage].channels for stage in self.stages), settings.width)
        self.heads = nn.ModuleList(Head(settings.width, classes, settings.depth) for _ in STRIDES)
        points, strides = grid(size)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def pretrained(self) -> Iterator[nn.Parameter]:
        # They learn at `backbone_lr`.
        return self.backbone.parameters()

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        for module in self.frozen:
            module.eval()
        if self._recompute:
            self.backbone.set_grad_checkpointing(mode)
        return self

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The feature maps of the backbone, of strides 8, 16 and 32; `pixels` as in `forward`."""
        maps: list[Tensor] = self._read(self.backbone, self.normalize(pixels), self.stages)
        return maps

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits and box logits of every cell.

        Args:
            pixels: float in 0 to 1, shape (batch, 3, height, width).

        Returns:
            shape (batch, cells, classes), and (batch, cells, 4 * BINS): distances to left, top, right, bottom.
        """
        outputs = [head(x) for head, x in zip(self.heads, self.pyramid(self.features(pixels)), strict=True)]
        return torch.cat([logits for logits, _ in outputs], 1), torch.cat([box_logits for _, box_logits in outputs], 1)


def build(network: NetworkSettings, size: tuple[int, int], classes: int, seed: int) -> Detector:
    """The network, with weights initialised from `seed`."""
    torch.manual_seed(seed)
    return Detector(network, size, classes)


def _update_once(norm: nn.modules.batchnorm._BatchNorm, _: Any, momentum: float | None) -> None:
    # Not while the backward pass computes activations again.
    norm.momentum = momentum if torch._C._current_graph_task_id() < 0 else 0.0


def grid(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The centre (x, y) and the stride of every cell, in pixels: shapes (cells, 2) and (cells, 1)."""
    points, strides = [], []
    for stride in STRIDES:
        y, x = (torch.arange(side // stride) * float(stride) + stride / 2 for side in size)
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack((columns, rows), -1).reshape(-1, 2))
        strides.append(torch.full((len(points[-1]), 1), float(stride)))
    return torch.cat(points), torch.cat(strides)


def decode(box_logits: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """Boxes from box logits: each distance is the mean of its distribution."""
    return boxes_around(points, moments(box_logits)[0] * strides)


def moments(box_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Means and mean squares of the distances to the four edges, in strides, each of shape (batch, cells, 4)."""
    probabilities = box_logits.float().unflatten(-1, (4, BINS)).softmax(-1)
    bins = torch.arange(BINS, dtype=probabilities.dtype, device=probabilities.device)
    mean, square = (probabilities @ torch.stack((bins, bins.square()), 1)).unbind(-1)
    return mean, square


def boxes_around(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes whose edges lie at these distances, in pixels, from the points."""
    return torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)
