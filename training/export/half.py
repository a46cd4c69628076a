"""Half precision: a whole graph for a GPU, or the word vectors alone, which halves the file of a text classifier."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from training.export.int8 import after_the_layers, layers_of


def write_float16(reference: Path, path: Path) -> None:
    """Writes a graph that computes in half precision what lies between its first layer and its last one.

    Inputs and outputs keep their types; what makes answers of the last layers' outputs stays in float32.
    """
    model = onnx.load(reference)
    after = after_the_layers(model, layers_of(model))
    halved = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=after, op_block_list=[*DEFAULT_OP_BLOCK_LIST, "Softmax"]
    )
    ordered = OnnxModel(halved)  # the converter appends its casts at the end
    ordered.topological_sort()
    del ordered.model.graph.value_info[:]  # and leaves the types of before
    onnx.save(ordered.model, path)


def write_half_vectors(reference: Path, path: Path) -> None:
    """Writes a graph whose tables of vectors, from which rows are taken, are kept in half precision.

    Raises:
        ValueError: it has no such tables.
    """
    model = onnx.load(reference)
    graph = model.graph
    tables = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    nodes, halved = [], set()
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Gather" and node.input[0] in tables:
            halved.add(node.input[0])
            wide = node.output[0]
            node.output[0] = f"{wide}_half"
            nodes.append(helper.make_node("Cast", [node.output[0]], [wide], to=TensorProto.FLOAT))
    if not halved:
        raise ValueError("it has no word vectors")
    elsewhere = {name for node in graph.node if node.op_type != "Gather" for name in node.input}
    if halved & elsewhere:
        raise ValueError("its word vectors are used in other ways too")
    for name in halved:
        values = numpy_helper.to_array(tables[name]).astype(np.float16)
        tables[name].CopyFrom(numpy_helper.from_array(values, name))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    onnx.save(model, path)
