"""A depthwise convolution with fast gradients on a CPU.

oneDNN's gradients of depthwise convolutions in bfloat16 are slow for strides over 1 (of the input) and for kernels over
3x3 (of the weight): they take ten times as long as the same sums in the forms below. `benchmarks/training.py` measures
the effect on a whole training step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
    part = weight.new_empty(len(weight), 1, 3, 3)
    found = torch.empty_like(weight)
    starts = (*range(0, kernel - 3, 3), kernel - 3)
    for top in starts:
        for left in starts:
            found[:, :, top : top + 3, left : left + 3] = torch.ops.aten.convolution_backward(
                gradient,
                padded[:, :, top : top + rows, left : left + columns],
                part,
                None,
                [stride, stride],
                [0, 0],
                [1, 1],
                False,
                [0, 0],
                len(weight),
                [False, True, False],
            )[1]
    return found


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether `DepthwiseConv` computes the same as this convolution, once a subclass has done its own padding."""
    return (
        conv.groups == conv.in_channels == conv.out_channels
        and conv.kernel_size[0] == conv.kernel_size[1] in (3, 5, 7)
        and conv.stride[0] == conv.stride[1]
        and conv.padding in ((0, 0), (conv.kernel_size[0] // 2,) * 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
    )
