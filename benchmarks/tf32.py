"""What TensorFloat-32 would change, without a GPU: the golden files replayed on graphs that round as it does.

GPUs since Ampere multiply float32 numbers with 10 of their 23 bits of mantissa unless they are told not to. Here the
operands of every convolution, matrix product and recurrent layer are rounded so, by nodes inserted into the graph, and
the CPU runs it.

python -m benchmarks.tf32
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

from benchmarks.options import newest
from service.inference.golden import Difference, compare, read_golden
from service.inference.manifest import MODEL
from service.tasks.registry import read_manifest

# Of each operator, which inputs are multiplied with each other. A recurrent layer's state is rounded at every step as
# well, which nodes around it cannot do.
_OPERANDS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": 2, "GRU": 3, "LSTM": 3, "RNN": 3}
# Veltkamp's splitting (1968; Dekker 1971): with c = (2^13 + 1) x, c - (c - x) is x without its last 13 bits, rounded to
# the nearest.
_SPLITTER = np.float32(2**13 + 1)


def main() -> None:
    """Prints how far each model's answers move, and whether its golden file would be refused."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tf32", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    table = Table(title="TensorFloat-32, emulated: what moves")
    for column in ("model", "version", "output", "moves by", "accepted", ""):
        table.add_column(column, no_wrap=True)
    for folder, found in replay_all(parser.parse_args().models):
        verdict = "harmless" if found.acceptable else "would be refused"
        value, accepted = f"{found.value:.1e}", f"{found.accepted:g}"
        table.add_row(folder.parent.name, folder.name, found.output, value, accepted, verdict)
    Console().print(table)


def replay_all(models: Path) -> Iterator[tuple[Path, Difference]]:
    """The newest version of each model, and how far it is from its golden file with TensorFloat-32."""
    for model in sorted(path for path in models.iterdir() if path.is_dir()):
        folder = newest(models, model.name)
        yield folder, replay(folder)


def replay(folder: Path) -> Difference:
    """How far a version's reference is from its golden file with TensorFloat-32."""
    manifest = read_manifest(folder)
    inputs, expected = read_golden(folder, manifest)
    options = ort.SessionOptions()
    # What follows must run as it was rewritten.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    rounded = round_operands(_fused(folder / MODEL))
    session = ort.InferenceSession(rounded.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return compare(expected, dict(zip(expected, session.run(list(expected), inputs), strict=True)), manifest.golden)


def round_operands(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph whose products are of operands that are rounded to 10 bits of mantissa.

    Raises:
        ValueError: it has graphs inside of it, which are not rewritten.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    graph = rewritten.graph
    nodes: list[onnx.NodeProto] = []
    rounded: dict[str, str] = {}
    for node in graph.node:
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            raise ValueError(f"{node.op_type} {node.name} has a graph inside of it")
        for index in range(_OPERANDS.get(node.op_type, 0)):
            name = node.input[index]
            if name not in rounded:
                rounded[name] = f"{name}.tf32"
                nodes += _rounding(name)
            node.input[index] = rounded[name]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array(_SPLITTER), "tf32.splitter"))
    return rewritten


def round_to_tf32(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Numbers rounded to 10 bits of mantissa, as the nodes round them."""
    scaled = values * _SPLITTER
    rounded: npt.NDArray[np.float32] = scaled - (scaled - values)
    return rounded


def _rounding(name: str) -> list[onnx.NodeProto]:
    """The nodes that round a tensor, as `round_to_tf32` does."""
    return [
        helper.make_node("Mul", [name, "tf32.splitter"], [f"{name}.scaled"]),
        helper.make_node("Sub", [f"{name}.scaled", name], [f"{name}.rest"]),
        helper.make_node("Sub", [f"{name}.scaled", f"{name}.rest"], [f"{name}.tf32"]),
    ]


def _fused(path: Path) -> onnx.ModelProto:
    """A graph as the runtime simplifies it before any device runs it, with normalisation folded into convolutions."""
    with tempfile.TemporaryDirectory() as scratch:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(scratch) / "fused.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


if __name__ == "__main__":
    main()
