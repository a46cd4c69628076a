"""The models of Triton's example clients, adopted as plain tensors: `python -m tests.clients.models FOLDER`.

Each takes INPUT0 and INPUT1 of 16 values, and answers with their sum and their difference, eight rows at a time.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from quartet.command_line import main

# Element type of the tensors, by model; the string model counts in integers.
MODELS = {"simple": TensorProto.INT32, "simple_int8": TensorProto.INT8, "simple_string": TensorProto.STRING}


def graph(element: int) -> onnx.ModelProto:
    """The sum and the difference of two inputs."""
    text = element == TensorProto.STRING

    def tensors(*names: str) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, element, ["batch", 16]) for name in names]

    nodes = []
    for operator, output in (("Add", "OUTPUT0"), ("Sub", "OUTPUT1")):
        names = ["NUMBER0", "NUMBER1", f"NUMBER_{output}"] if text else ["INPUT0", "INPUT1", output]
        nodes.append(helper.make_node(operator, names[:2], names[2:]))
    if text:
        casts = [("INPUT0", "NUMBER0", TensorProto.INT32), ("INPUT1", "NUMBER1", TensorProto.INT32)]
        nodes = [helper.make_node("Cast", [given], [made], to=to) for given, made, to in casts] + nodes
        nodes += [helper.make_node("Cast", [f"NUMBER_{name}"], [name], to=element) for name in ("OUTPUT0", "OUTPUT1")]
    made = helper.make_graph(nodes, "sums", tensors("INPUT0", "INPUT1"), tensors("OUTPUT0", "OUTPUT1"))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def adopt(models: Path) -> None:
    """Adopts all of them; raises SystemExit if one is refused."""
    rows = np.arange(8 * 16).reshape(8, 16) % 50
    for name, element in MODELS.items():
        dtype = np.str_ if element == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(element)
        with tempfile.TemporaryDirectory() as folder:
            file, samples = Path(folder) / f"{name}.onnx", Path(folder) / "samples.npz"
            onnx.save(graph(element), file)
            np.savez(samples, INPUT0=rows.astype(dtype), INPUT1=rows[::-1].astype(dtype))
            options = ["--name", name, "--samples", str(samples), "--max-batch", "8", "--models", str(models)]
            if code := main(["adopt", str(file), *options]):
                sys.exit(code)


if __name__ == "__main__":
    adopt(Path(sys.argv[1]))
