"""Graphs of less precision, with the tools of ONNX Runtime: static int8 for a CPU, half precision for a GPU.

Unsigned activations and signed weights with a scale for each channel are what a CPU with VNNI multiplies fastest
(Jacob et al. 2018, arXiv:1712.05877; ONNX Runtime's guide to quantisation). The range of an activation is the one
that 99.99 % of its values fall into, over some training inputs.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from training.export.layers import LAYERS, Inputs, after_the_layers

PERCENTILE = 99.99


class _Reader(CalibrationDataReader):
    # Batches are read one at a time: of those that it gets at once the runtime keeps every activation.

    def __init__(self, batches: Sequence[Inputs]) -> None:
        self._batches = batches
        self._range: Iterator[Inputs] = iter(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._range = iter(self._batches[start_index:end_index])

    def get_next(self) -> Inputs | None:
        return next(self._range, None)


def write_int8(reference: Path, path: Path, batches: Sequence[Inputs]) -> None:
    """Writes the int8 graph of a float32 one; `batches` are training inputs."""
    with contextlib.ExitStack() as undo, tempfile.TemporaryDirectory() as scratch:
        # The tools log, and print.
        logging.disable(logging.WARNING)
        undo.callback(logging.disable, logging.NOTSET)
        undo.enter_context(contextlib.redirect_stdout(io.StringIO()))
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(reference), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Beside the layers: what may stay in 8 bits between them.
            op_types_to_quantize=[*LAYERS, "Add", "Clip", "MaxPool", "Mul", "Relu", "Sigmoid"],
            nodes_to_exclude=after_the_layers(onnx.load(prepared)),
            calibrate_method=CalibrationMethod.Percentile,
            # The name of the option is misleading: whatever the method, so many batches are read at a time.
            extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
        )


def write_float16(reference: Path, path: Path) -> None:
    """Writes a graph in half precision; inputs, outputs and what follows the last layer stay in float32."""
    model = onnx.load(reference)
    halved = convert_float_to_float16(
        model,
        keep_io_types=True,
        node_block_list=after_the_layers(model),
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Softmax"],
    )
    ordered = OnnxModel(halved)  # the converter appends its casts at the end
    ordered.topological_sort()
    del ordered.model.graph.value_info[:]  # and leaves the types of before
    onnx.save(ordered.model, path)
