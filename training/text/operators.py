"""The GRU as a custom operator, exported as the single ONNX operator that it is.

How PyTorch exports its recurrent layers depends on what was exported before in the same process, and may fix the
length (torch 2.14). A custom operator with an ONNX function of its own does not have that problem.
"""

from collections.abc import Callable, Mapping
from typing import Any

import onnxscript
import torch
from torch import Tensor

# Its declared types do not allow a constant as an argument.
op: Any = onnxscript.opset20


@torch.library.custom_op("quartet::gru", mutates_args=())
def gru(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """States of one GRU layer, shape (batch, time, hidden), of inputs (batch, time, features), as `nn.GRU`."""
    start = x.new_zeros((1, x.shape[0], w_hh.shape[1]))
    return torch.gru(x, start, (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, False, False, True)[0].clone()


@gru.register_fake
def _(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:  # noqa: ARG001
    return x.new_empty((x.shape[0], x.shape[1], w_hh.shape[1]))


def _onnx_gru(x: Any, *weights: Any) -> Any:
    """PyTorch has the gates reset, update, new; ONNX update, reset, hidden. Both reset after the product."""
    reordered = []
    for weight in weights:
        gates = op.Split(weight, num_outputs=3, axis=0)
        reordered.append(op.Concat(gates[1], gates[0], gates[2], axis=0))
    w_ih, w_hh, b_ih, b_hh = reordered
    first = op.Constant(value_ints=[0])
    outputs = op.GRU(
        op.Transpose(x, perm=[1, 0, 2]),
        op.Unsqueeze(w_ih, first),
        op.Unsqueeze(w_hh, first),
        op.Unsqueeze(op.Concat(b_ih, b_hh, axis=0), first),
        hidden_size=weights[1].shape[1],
        linear_before_reset=1,
    )
    # (time, directions, batch, hidden)
    return op.Transpose(op.Squeeze(outputs[0], op.Constant(value_ints=[1])), perm=[1, 0, 2])


TRANSLATIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {torch.ops.quartet.gru.default: _onnx_gru}
