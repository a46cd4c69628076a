"""The tiny classifier with int8 variants: one that is right anywhere, one as a CPU without VNNI computes it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.inference.manifest import sha256
from tests.tiny import LABELS, SIZE, answer, graph, manifest, write_model

_PIXELS = SIZE * SIZE


def int8_graph(weight: int = 63, *, saturates: bool = False) -> onnx.ModelProto:
    """The tiny classifier as a product of uint8 pixels and int8 weights, summed in 32 bits.

    Args:
        weight: the int8 weight of every pixel. A CPU without VNNI adds two products in 16 bits (VPMADDUBSW), which is
            exact up to 63.
        saturates: whether to do as such a CPU does.
    """
    weights = np.kron(np.eye(len(LABELS), dtype=np.int8), np.full((_PIXELS, 1), weight, dtype=np.int8))
    if saturates:
        product = [
            helper.make_node("Cast", ["row"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["floats", "paired"], ["pairs"]),
            helper.make_node("Mul", ["pairs", "weights"], ["products"]),
            helper.make_node("ReduceSum", ["products", "pair"], ["sums"], keepdims=0),
            helper.make_node("Clip", ["sums", "least", "most"], ["clipped"]),
            helper.make_node("ReduceSum", ["clipped", "rest"], ["total"], keepdims=0),
        ]
        constants = [
            numpy_helper.from_array(np.array([-1, _PIXELS * 3 // 2, 2, 1]), "paired"),
            numpy_helper.from_array(weights.reshape(-1, 2, len(LABELS)).astype(np.float32), "weights"),
            numpy_helper.from_array(np.array([2]), "pair"),
            numpy_helper.from_array(np.array([1]), "rest"),
            numpy_helper.from_array(np.float32(-(2**15)), "least"),
            numpy_helper.from_array(np.float32(2**15 - 1), "most"),
        ]
    else:
        product = [
            helper.make_node("MatMulInteger", ["row", "weights"], ["integers"]),
            helper.make_node("Cast", ["integers"], ["total"], to=TensorProto.FLOAT),
        ]
        constants = [numpy_helper.from_array(weights, "weights")]
    reference = graph()
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]),
                helper.make_node("Flatten", ["planes"], ["row"]),
                *product,
                helper.make_node("Mul", ["total", "scale"], ["logits"]),
                helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
            ],
            "tiny-int8",
            reference.graph.input,
            reference.graph.output,
            [*constants, numpy_helper.from_array(np.float32(1 / (32 * weight * _PIXELS)), "scale")],
        ),
        opset_imports=reference.opset_import,
        ir_version=reference.ir_version,
    )
    onnx.checker.check_model(model)
    return model


def write_variant(folder: Path, model: onnx.ModelProto, name: str = "int8", **changes: Any) -> None:
    """Adds a variant to a version; its golden file says what is right. `changes` replace what its card says."""
    onnx.save(model, folder / f"{name}.onnx")
    images = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    np.savez(folder / f"{name}.npz", images=images, probabilities=answer(images))
    card = json.loads((folder / "manifest.json").read_text())
    figures = manifest()
    variant = {
        "name": name,
        "file": f"{name}.onnx",
        "device": "cpu",
        "method": "by hand",
        "golden": {"file": f"{name}.npz", "rows": 4, "atol": 1e-4},
        "size": (folder / f"{name}.onnx").stat().st_size,
        "metrics": {**figures["metrics"], "accuracy": 0.99},
        "calibration": figures["calibration"],
        "conformal": figures["conformal"][:2],
        **changes,
    }
    card["variants"] = [*card.get("variants", []), variant]
    card["files"] |= {file: sha256(folder / file) for file in (f"{name}.onnx", f"{name}.npz")}
    (folder / "manifest.json").write_text(json.dumps(card))


def write_slow_model(models: Path, model: onnx.ModelProto | None = None, **changes: Any) -> Path:
    """A version whose reference is far slower than its int8 variant."""
    folder = write_model(models, slow=50)
    write_variant(folder, model or int8_graph(), **changes)
    return folder
