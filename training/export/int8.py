"""Static int8 quantisation of a published graph, with the tools of ONNX Runtime.

Unsigned activations and signed weights with a scale for each channel are what a CPU with VNNI multiplies fastest
(Jacob et al. 2018, arXiv:1712.05877; ONNX Runtime's guide to quantisation). The range of an activation is the one
that 99.99 % of its values fall into, over some training inputs.
"""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

PERCENTILE = 99.99
# What multiplies, and what may stay in 8 bits between such layers.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BETWEEN = ("Add", "Clip", "MaxPool", "Mul", "Relu", "Sigmoid")
Inputs = Mapping[str, npt.NDArray[Any]]


class _Reader(CalibrationDataReader):
    """Batches that are read a few at a time: of those that it gets at once the runtime keeps every activation."""

    def __init__(self, batches: Sequence[Inputs]) -> None:
        self._batches = batches
        self._range: Iterator[Inputs] = iter(batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Has the batches between these come next, and no more."""
        self._range = iter(self._batches[start_index:end_index])

    def get_next(self) -> Inputs | None:
        """The next batch; None after the last."""
        return next(self._range, None)


class Quantizer:
    """Makes int8 graphs of one reference; it is calibrated once.

    Args:
        reference: the graph, in float32.
        batches: training inputs, by the name of the tensor.
        folder: for what is kept between graphs.

    Attributes:
        layers: the names of the layers that may be quantised, in the order of the graph.
    """

    def __init__(self, reference: Path, batches: Sequence[Inputs], folder: Path) -> None:
        self._prepared = folder / "prepared.onnx"
        self._ranges = folder / "ranges.json"
        self._batches = batches
        with _silenced():
            quant_pre_process(str(reference), str(self._prepared), skip_symbolic_shape=True)
        model = onnx.load(self._prepared)
        self.layers = layers_of(model)
        self._after = after_the_layers(model, self.layers)

    def write(self, path: Path, in_float: Sequence[str] = ()) -> None:
        """Writes the int8 graph in which the layers `in_float` stay as they are."""
        with _silenced():
            quantize_static(
                str(self._prepared),
                str(path),
                _Reader(self._batches),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=[*LAYERS, *_BETWEEN],
                nodes_to_exclude=[*self._after, *in_float],
                calibrate_method=CalibrationMethod.Percentile,
                calibration_cache_path=self._ranges,
                # The name of the option is misleading: whatever the method, so many batches are read at a time.
                extra_options={"CalibPercentile": PERCENTILE, "CalibStridedMinMax": 1},
            )


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keeps from the console what the tools print and log by the root logger."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)


def layers_of(model: onnx.ModelProto) -> list[str]:
    """The names of the nodes that multiply by weights, in the order of the graph."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in LAYERS and constants & {*node.input[1:2]}]


def after_the_layers(model: onnx.ModelProto, layers: Sequence[str]) -> list[str]:
    """The names of the nodes that no layer depends on: what makes answers of the last layers' outputs."""
    needed: set[str] = set()
    after = []
    for node in reversed(model.graph.node):
        if node.name in layers or needed & {*node.output}:
            needed |= {*node.input}
        else:
            after.append(node.name)
    return after
