"""Runs an int8 graph as a CPU without VNNI does: it adds two products of uint8 and int8 in 16 bits, which saturate.

The instruction is VPMADDUBSW. Where it adds exactly (`saturates=False`), the emulation is the graph's plain meaning.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

Array = np.ndarray[Any, Any]
_DOMAIN = "emulated"


class _ExactConv(OpRun):
    """A convolution of uint8 by int8 without dilation or groups: quantized tensors in, float32 out."""

    op_domain = _DOMAIN
    lost: ClassVar[bool] = False

    def _run(self, x: Array, x_scale: Array, x_zero: Array, w: Array, w_scale: Array, *bias: Array, pads, strides):
        top, left, bottom, right = pads
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=int(x_zero))
        windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
        windows = windows[:, :, :: strides[0], :: strides[1]]
        images, _, height, width = windows.shape[:4]
        # The runtime orders the terms of a sum by pixel of the kernel and then by channel.
        patches = windows.transpose(0, 2, 3, 4, 5, 1).reshape(images * height * width, -1).astype(np.float32)
        kernels = w.transpose(2, 3, 1, 0).reshape(-1, len(w)).astype(np.float32)
        total = patches @ kernels
        if self.lost:
            for pair in range(0, len(kernels), 2):
                two = patches[:, pair : pair + 2] @ kernels[pair : pair + 2]
                total -= two - two.clip(-(2**15), 2**15 - 1)
        answer = (total - float(x_zero) * kernels.sum(0)) * x_scale * w_scale
        answer = answer.reshape(images, height, width, -1).transpose(0, 3, 1, 2)
        return (np.float32(answer + bias[0].reshape(1, -1, 1, 1) if bias else answer),)


class _SaturatingConv(_ExactConv):
    lost = True


def run(path: Path, inputs: dict[str, Array], *, saturates: bool) -> dict[str, Array]:
    """The graph's answers by the name of the output.

    Args:
        path: of a graph whose convolutions are between quantized tensors (QDQ).
        inputs: by name.
        saturates: whether sums of two products saturate.
    """
    model = onnx.load(path)
    made_by = {name: node for node in model.graph.node for name in node.output}
    conv = _SaturatingConv if saturates else _ExactConv
    for node in model.graph.node:
        if node.op_type == "Conv":
            pixels, weights = (made_by[name] for name in node.input[:2])
            assert pixels.op_type == weights.op_type == "DequantizeLinear"
            stated = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            assert stated["group"] == 1
            assert set(stated["dilations"]) == {1}
            emulated = helper.make_node(
                conv.__name__,
                [*pixels.input, *weights.input[:2], *node.input[2:]],
                list(node.output),
                domain=_DOMAIN,
                pads=stated["pads"],
                strides=stated["strides"],
            )
            node.CopyFrom(emulated)
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    answers = ReferenceEvaluator(model, new_ops=[conv]).run(None, inputs)
    return dict(zip((output.name for output in model.graph.output), answers, strict=True))
