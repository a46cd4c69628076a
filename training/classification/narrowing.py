"""A narrow CNN that starts with what a trained wider one knows: of each layer the filters that matter most.

How much the loss depends on a filter is estimated from the gradients of its normalisation's scale and shift, as in
Molchanov et al. 2019 (arXiv:1906.10771). The first and the last convolution of a group are added up, so they keep the
same filters.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones.cnn import CNN, ConvGroup
from training.data.augment import to_pixels
from training.data.images import ImageData, ImageSplit
from training.engine.weights import best_weights, start_from

# Training images that the importance of filters is estimated on, and how many at a time.
_IMAGES, _BATCH = 2048, 128


def is_wider(model: CNN, folder: Path) -> bool:
    """Whether the run or version in `folder` is of a CNN with at least the filters of `model`, and more in a group.

    Raises:
        ValueError: `folder` holds no weights.
    """
    before, now = _widths(best_weights(folder)), _widths(model.state_dict())
    return len(before) == len(now) and before != now and all(b >= n for b, n in zip(before, now, strict=True))


def start_narrower(model: CNN, folder: Path, data: ImageData) -> None:
    """Gives `model` the most important filters of the wider network in `folder`.

    Args:
        model: is changed; of the same depth, on the CPU.
        folder: of a run or a version.
        data: whose training images tell which filters matter.

    Raises:
        ValueError: the wider network differs in more than its widths.
    """
    depth = len(_groups(model)[0].convs)
    wide = CNN(copy.deepcopy(model.normalize), data.shape, len(data.classes), _widths(best_weights(folder)), depth)
    start_from(wide, folder)
    take_filters(wide, model, importance(wide, data.train))


def importance(model: CNN, split: ImageSplit) -> list[list[Tensor]]:
    """How much the loss depends on each filter: for each convolution of each group a tensor of shape (filters,)."""
    model = model.eval()
    norms = [_norms(group) for group in _groups(model)]
    sums = [[torch.zeros_like(norm.weight) for norm in group] for group in norms]
    # Evenly spaced, so that every class is among them however they are ordered.
    indices = np.linspace(0, len(split) - 1, min(_IMAGES, len(split))).astype(np.int64)
    for start in range(0, len(indices), _BATCH):
        batch = split.take(indices[start : start + _BATCH])
        loss = F.cross_entropy(model(to_pixels(torch.from_numpy(batch.images[:]))), torch.from_numpy(batch.labels))
        parameters = [parameter for group in norms for norm in group for parameter in (norm.weight, norm.bias)]
        gradients = iter(torch.autograd.grad(loss, parameters))
        for group, totals in zip(norms, sums, strict=True):
            for norm, total in zip(group, totals, strict=True):
                total += (norm.weight * next(gradients) + norm.bias * next(gradients)).detach().square()
    return sums


@torch.no_grad()
def take_filters(wide: CNN, narrow: CNN, importance: list[list[Tensor]]) -> None:
    """Fills `narrow` with the filters of `wide` that matter most, and with all that does not depend on the width."""
    narrow.normalize.load_state_dict(wide.normalize.state_dict())
    narrow.whiten.load_state_dict(wide.whiten.state_dict())
    inputs = torch.arange(wide.whiten.out_channels)
    for before, after, counts in zip(_groups(wide), _groups(narrow), importance, strict=True):
        # Of the convolutions that are added up, each counts the same.
        joint = counts[0] / counts[0].sum().clamp_min(1e-12)
        if len(counts) > 1:
            joint = joint + counts[-1] / counts[-1].sum().clamp_min(1e-12)
        for layer, (source, conv) in enumerate(zip(_convs(before), _convs(after), strict=True)):
            shared = layer in (0, len(counts) - 1)
            kept = (joint if shared else counts[layer]).topk(conv.out_channels).indices.sort().values
            conv.weight.copy_(source.weight[kept][:, inputs])
            statistics = _norms(before)[layer].state_dict()
            for name, value in _norms(after)[layer].state_dict().items():
                value.copy_(statistics[name][kept] if value.ndim else statistics[name])
            inputs = kept
    narrow.head.weight.copy_(wide.head.weight[:, inputs])
    narrow.head.bias.copy_(wide.head.bias)


def _groups(model: CNN) -> list[ConvGroup]:
    return [group for group in model.groups if isinstance(group, ConvGroup)]


def _convs(group: ConvGroup) -> list[nn.Conv2d]:
    return [conv for conv in group.convs if isinstance(conv, nn.Conv2d)]


def _norms(group: ConvGroup) -> list[nn.BatchNorm2d]:
    return [norm for norm in group.norms if isinstance(norm, nn.BatchNorm2d)]


def _widths(state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """The filters of each group of a CNN, given its weights; empty for another network."""
    widths = list[int]()
    while (name := f"groups.{len(widths)}.convs.0.weight") in state:
        widths.append(len(state[name]))
    return tuple(widths)
