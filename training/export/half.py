"""Half precision for a GPU."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from training.export.layers import after_the_layers


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
