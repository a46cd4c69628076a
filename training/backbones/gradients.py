"""Fast gradients of depthwise convolutions on a CPU in bfloat16.

oneDNN's gradients of them are slow for strides over 1 (of the input) and for kernels over 3x3 (of the weight): they
take ten times as long as the same sums in the forms below. `benchmarks/training.py` measures whole training steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@contextmanager
def fast_gradients(network: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """Meanwhile, depthwise convolutions that are trained on a CPU in bfloat16 compute their gradients fast."""
    kinds: dict[type[nn.Conv2d], type[nn.Conv2d]] = {nn.Conv2d: _Depthwise}
    swapped = []
    if device.type == "cpu" and precision == "bfloat16":
        swapped = [conv for conv in network.modules() if isinstance(conv, nn.Conv2d) and _is_depthwise(conv)]
    # Another class and not another module: the network may be copied, and its state dict stays as it is.
    before = [(conv, type(conv)) for conv in swapped]
    for conv, kind in before:
        if kind not in kinds:  # timm's, which pads as TensorFlow does
            kinds[kind] = type("DepthwiseSame", (_DepthwiseSame, kind), {})
        conv.__class__ = kinds[kind]
    try:
        yield
    finally:
        for conv, kind in before:
            conv.__class__ = kind


class DepthwiseConv(torch.autograd.Function):
    """`apply(x, weight, bias, stride, padding)`: each channel convolved with its own odd square filter of 3x3 or more.

    Args (of `apply`):
        x: shape (batch, channels, height, width).
        weight: shape (channels, 1, kernel, kernel).
        bias: shape (channels,).
        stride: of both axes.
        padding: with zeros, on all four sides; less than the kernel.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return (
            _of_input(gradient, x, weight, ctx.stride, ctx.padding) if of_x else None,
            _of_weight(gradient, x, weight, ctx.stride, ctx.padding) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
        )


def _of_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient, dilated by the stride, convolved with the flipped filter: a forward convolution."""
    kernel = weight.shape[-1]
    if stride > 1:
        batch, channels, height, width = x.shape
        reach = 2 * padding - kernel + 1
        dilated = gradient.new_zeros(batch, channels, height + reach, width + reach)
        dilated = dilated.contiguous(memory_format=torch.channels_last)
        dilated[:, :, ::stride, ::stride] = gradient
        gradient = dilated
    return F.conv2d(gradient, weight.flip(2, 3), padding=kernel - 1 - padding, groups=len(weight))


def _of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """The gradient of each 3x3 part of the filter, from the part of the input that it covers."""
    kernel = weight.shape[-1]
    padded = F.pad(x, (padding,) * 4)
    rows, columns = ((side - 1) * stride + 3 for side in gradient.shape[2:])
    part, found = weight.new_empty(len(weight), 1, 3, 3), torch.empty_like(weight)
    starts = (*range(0, kernel - 3, 3), kernel - 3)
    for top in starts:
        for left in starts:
            covered = padded[:, :, top : top + rows, left : left + columns]
            _, of_part, _ = torch.ops.aten.convolution_backward(
                gradient, covered, part, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], len(weight),
                [False, True, False],
            )  # fmt: skip
            found[:, :, top : top + 3, left : left + 3] = of_part
    return found


def _is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether `DepthwiseConv` computes the same, and its gradients are needed."""
    return (
        (type(conv) is nn.Conv2d or type(conv).__name__ == "Conv2dSame")
        and conv.weight.requires_grad
        and conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size[0] == conv.kernel_size[1] in (3, 5, 7)
        and conv.stride[0] == conv.stride[1]
        and conv.padding in ((0, 0), (conv.kernel_size[0] // 2,) * 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
    )


class _Depthwise(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._convolve(x, int(self.padding[0])) if self.training else super().forward(x)

    def _convolve(self, x: Tensor, padding: int) -> Tensor:
        bias = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias
        convolved: Tensor = DepthwiseConv.apply(x, self.weight, bias, self.stride[0], padding)
        return convolved


class _DepthwiseSame(_Depthwise):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        around = (width // 2, width - width // 2, height // 2, height - height // 2)
        return self._convolve(F.pad(x, around), 0)
