"""Has the convolutions of a network compute their gradients fast on a CPU, where oneDNN is slow in bfloat16."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from training.backbones.depthwise import DepthwiseConv, is_depthwise
from training.backbones.timm_models import Conv2dSame, pad_same
from training.backbones.wide import WideConv, is_wide


def gradients_for(network: nn.Module, device: torch.device, precision: str) -> AbstractContextManager[None]:
    """`fast_gradients` of the network where they are the faster ones: on a CPU in bfloat16."""
    return fast_gradients(network) if device.type == "cpu" and precision == "bfloat16" else nullcontext()


@contextmanager
def fast_gradients(network: nn.Module) -> Iterator[None]:
    """Has depthwise and wide convolutions compute their gradients fast meanwhile; weights and copies stay.

    Args:
        network: is trained on a CPU in bfloat16.
    """
    swapped = [
        (conv, type(conv), fast)
        for conv in network.modules()
        if isinstance(conv, nn.Conv2d) and conv.weight.requires_grad and (fast := _fast_kind(conv))
    ]
    # Another class and not another module: the network may be copied, and its state dict stays as it is.
    for conv, _, fast in swapped:
        conv.__class__ = fast
    try:
        yield
    finally:
        for conv, kind, _ in swapped:
            conv.__class__ = kind


class _Depthwise(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return _depthwise(self, x, self.padding[0]) if self.training else super().forward(x)


class _DepthwiseSame(Conv2dSame):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return _depthwise(self, pad_same(x, list(self.weight.shape[2:]), list(self.stride), list(self.dilation)), 0)


class _Wide(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        convolved: Tensor = WideConv.apply(x, self.weight, self.bias, self.padding[0])
        return convolved


_DEPTHWISE: dict[type[nn.Conv2d], type[nn.Conv2d]] = {nn.Conv2d: _Depthwise, Conv2dSame: _DepthwiseSame}


def _fast_kind(conv: nn.Conv2d) -> type[nn.Conv2d] | None:
    """The class whose gradients are fast and which computes the same, if there is one."""
    if is_depthwise(conv):
        return _DEPTHWISE.get(type(conv))
    return _Wide if is_wide(conv) else None


def _depthwise(conv: nn.Conv2d, x: Tensor, padding: Any) -> Tensor:
    bias = conv.weight.new_zeros(len(conv.weight)) if conv.bias is None else conv.bias
    convolved: Tensor = DepthwiseConv.apply(x, conv.weight, bias, conv.stride[0], padding)
    return convolved
