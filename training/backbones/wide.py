"""A convolution of many channels over small maps, with a fast gradient of its weight on a CPU.

oneDNN computes this gradient in bfloat16 row by row, and rows of three or seven pixels leave most of the processor's
matrix unit idle. As one product of matrices for each position in the kernel, over the pixels of all maps, it takes half
the time at 7x7 pixels and a fifth at 3x3. `benchmarks/training.py` measures the effect on a whole training step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# With fewer channels, or over larger maps, oneDNN is as fast or faster.
_CHANNELS, _PIXELS = 128, 64


class WideConv(torch.autograd.Function):
    """`apply(x, weight, bias, padding)`: a convolution with stride 1.

    Args (of `apply`):
        x: shape (batch, channels in, height, width).
        weight: shape (channels out, channels in, kernel, kernel).
        bias: shape (channels out,).
        padding: with zeros, on all four sides.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        small = gradient.shape[2] * gradient.shape[3] <= _PIXELS
        found_x, found_weight, found_bias = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            [len(weight)] if of_bias else None,
            [1, 1],
            [ctx.padding] * 2,
            [1, 1],
            False,
            [0, 0],
            1,
            [of_x, of_weight and not small, of_bias],
        )
        if of_weight and small:
            found_weight = _of_weight(gradient, x, weight.shape[2], ctx.padding)
        return found_x, found_weight, found_bias, None


def _of_weight(gradient: Tensor, x: Tensor, kernel: int, padding: int) -> Tensor:
    """For each position in the kernel, the product of the gradient and the pixels that the position sees."""
    height, width = gradient.shape[2:]
    inputs, outputs = x.shape[1], gradient.shape[1]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *(padding,) * 4))
    of_pixels = gradient.permute(0, 2, 3, 1).reshape(-1, outputs).t()
    found = x.new_empty(kernel, kernel, outputs, inputs)
    for top in range(kernel):
        for left in range(kernel):
            seen = padded[:, top : top + height, left : left + width].reshape(-1, inputs)
            torch.mm(of_pixels, seen, out=found[top, left])
    return found.permute(2, 3, 0, 1)


def is_wide(conv: nn.Conv2d) -> bool:
    """Whether `WideConv` computes the same as this convolution, and may be faster."""
    return (
        type(conv) is nn.Conv2d
        and conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= _CHANNELS
        and conv.kernel_size[0] == conv.kernel_size[1] > 1
        and conv.stride == (1, 1)
        and conv.dilation == (1, 1)
        and conv.padding in ((0, 0), (conv.kernel_size[0] // 2,) * 2)
        and conv.padding_mode == "zeros"
    )
