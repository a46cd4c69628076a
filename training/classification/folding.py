"""Fine-tuning with frozen statistics of batch normalisation, folded into the convolutions before it.

Batch normalisation with constant statistics scales and shifts each channel. A convolution with scaled and shifted
filters does the same in a single pass over memory, and memory is what limits the training of a small network on a CPU.
The parameters (filters, scales and shifts) remain the same, so a state dict fits the network before and after.
"""

import copy
import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.backbones.depthwise import DepthwiseConv, is_depthwise
from training.backbones.timm_models import BatchNormAct2d, Conv2dSame, pad_same
from training.classification.network import Transfer


class FoldedNorm(nn.Module):
    """The rest of a folded normalisation: its parameters, for the convolution before it, and its activation."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        for name, parameter in norm.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.eps = norm.eps
        self.act = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()

    def affine(self) -> tuple[Tensor, Tensor]:
        """The scale and the shift of each channel, both of shape (channels,)."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(x)
        return activated


class FoldedConv(nn.Module):
    """A convolution together with the normalisation that follows it.

    Args:
        conv: without a bias; its filters are shared.
        norm: see `FoldedNorm`; keeps its position in the network.
    """

    def __init__(self, conv: nn.Conv2d, norm: FoldedNorm) -> None:
        super().__init__()
        self.weight = conv.weight
        self._norm = (norm,)  # in a tuple, so that it is not registered as a submodule
        self._same = isinstance(conv, Conv2dSame)
        self._geometry: Any = (conv.stride, (0, 0) if self._same else conv.padding, conv.dilation)
        self._groups = conv.groups
        self._depthwise = is_depthwise(conv)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self._norm[0].affine()
        weight = self.weight * scale[:, None, None, None]
        stride, padding, dilation = self._geometry
        if self._same:
            x = pad_same(x, list(self.weight.shape[2:]), stride, dilation)
        if self._depthwise and x.device.type == "cpu":
            convolved: Tensor = DepthwiseConv.apply(x, weight, shift, stride[0], padding[0])
            return convolved
        return F.conv2d(x, weight, shift, stride, padding, dilation, self._groups)


@torch.no_grad()
def fold(network: Transfer) -> Transfer:
    """A copy of the network for training, with the normalisations of its backbone folded into the convolutions.

    Args:
        network: the statistics of its backbone are frozen.

    Returns:
        A network whose state dict fits `network`.

    Raises:
        ValueError: the backbone's normalisations do not each directly follow a convolution of their own.
    """
    folded = copy.deepcopy(network)
    backbone = folded.backbone.eval()
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, x, y: calls.append((module, x[0], y)))
        for module in backbone.modules()
        if type(module) in (nn.Conv2d, Conv2dSame, nn.BatchNorm2d, BatchNormAct2d)
    ]
    side = network.size or 64
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    before = backbone(images)
    for hook in hooks:
        hook.remove()
    parents = {module: (parent, name) for parent in backbone.modules() for name, module in parent.named_children()}
    pairs = 0
    for (conv, _, y), (norm, x, _) in itertools.pairwise(calls):
        if isinstance(conv, nn.Conv2d) and conv.bias is None and isinstance(norm, nn.BatchNorm2d) and x is y:
            pairs += 1
            kept = FoldedNorm(norm)
            for module, replacement in ((norm, kept), (conv, FoldedConv(conv, kept))):
                parent, name = parents[module]
                setattr(parent, name, replacement)
    left = any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    if not pairs or left or not torch.allclose(backbone(images), before, rtol=1e-2, atol=1e-3):
        raise ValueError("--freeze-norms: this backbone has no batch normalisation that always follows a convolution")
    return folded
