"""A tiny but real classifier: 8 x 8 pixels to the probabilities of red, green and blue, by mean colour."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from service.inference.manifest import sha256

LABELS = ("red", "green", "blue")
SIZE = 8
COLOURS = {"red": (230, 20, 30), "green": (20, 230, 30), "blue": (20, 30, 230)}
# The scale of the logits, which says how strongly a brighter channel dominates in the softmax.
_SCALE = 1 / 32


def answer(pixels: np.ndarray) -> np.ndarray:
    """What the graph gives for uint8 pixels of shape (batch, 8, 8, 3)."""
    logits = pixels.astype(np.float64).mean(axis=(1, 2)) * _SCALE
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def solid(label: str, size: int = SIZE) -> np.ndarray:
    """An image of one colour, shape (size, size, 3)."""
    return np.full((size, size, 3), COLOURS[label], dtype=np.uint8)


def graph(slow: int = 0) -> onnx.ModelProto:
    """The graph; `slow` is how often it multiplies two 256 x 256 matrices, which does not change the answer."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "scale"], ["logits"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [_SCALE]),
    ]
    if slow:
        constants += [
            helper.make_tensor("trips", TensorProto.INT64, [], [slow]),
            helper.make_tensor("go", TensorProto.BOOL, [], [True]),
            helper.make_tensor("side", TensorProto.INT64, [2], [256, 256]),
            helper.make_tensor("corner", TensorProto.INT64, [2], [0, 0]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        ]
        body = helper.make_graph(
            [
                helper.make_node("MatMul", ["state", "state"], ["next"]),
                helper.make_node("Identity", ["on"], ["still_on"]),
            ],
            "again",
            [
                helper.make_tensor_value_info("trip", TensorProto.INT64, []),
                helper.make_tensor_value_info("on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("state", TensorProto.FLOAT, [256, 256]),
            ],
            [
                helper.make_tensor_value_info("still_on", TensorProto.BOOL, []),
                helper.make_tensor_value_info("next", TensorProto.FLOAT, [256, 256]),
            ],
        )
        nodes += [
            # A matrix of zeros that depends on the input, so that constant folding cannot remove it.
            helper.make_node("ReduceMean", ["logits"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Expand", ["nothing", "side"], ["zeros"]),
            helper.make_node("Loop", ["trips", "go", "zeros"], ["product"], body=body),
            helper.make_node("GatherND", ["product", "corner"], ["element"]),
            helper.make_node("Add", ["logits", "element"], ["scores"]),
        ]
    nodes.append(helper.make_node("Softmax", ["scores" if slow else "logits"], ["probabilities"], axis=-1))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(LABELS)])],
            constants,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    return model


def manifest(name: str = "classifier", **changes: Any) -> dict[str, Any]:
    """A manifest of the graph, without the `files`; `changes` replace what it says."""
    quality = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 10}
    return {
        "name": name,
        "description": "three colours",
        "inputs": [{"name": "images", "dtype": "uint8", "shape": [-1, SIZE, SIZE, 3]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, len(LABELS)]}],
        "max_batch": 16,
        "data": {"name": "colours", "fingerprint": "sha256:0", "train": 30, "validation": 30, "test": 30},
        "training": {
            "recipe": "by hand",
            "settings": {"seed": 0},
            "epochs_run": 0,
            "best_epoch": 0,
            "seconds": 0.0,
            "parameters": 0,
            "versions": {"onnx": onnx.__version__},
        },
        "golden": {"rows": 4, "atol": 1e-5},
        "task": "classification",
        "labels": list(LABELS),
        "image": {"height": SIZE, "width": SIZE, "channels": 3},
        "metrics": {
            "accuracy": 1.0,
            "macro_f1": 1.0,
            "negative_log_likelihood": 0.1,
            "validation_accuracy": 1.0,
            "per_class": [{"label": label, **quality} for label in LABELS],
        },
        "calibration": {"temperature": 1.0, "ece_before": 0.01, "ece_after": 0.01},
        "conformal": [
            {"coverage": 0.8, "threshold": 0.6, "test_coverage": 0.81, "mean_set_size": 1.0},
            {"coverage": 0.9, "threshold": 0.3, "test_coverage": 0.91, "mean_set_size": 1.4},
            {"coverage": 0.95, "threshold": 0.001, "test_coverage": 0.96, "mean_set_size": 2.5},
        ],
        **changes,
    }


def write_model(
    models: Path,
    name: str = "classifier",
    version: str = "1",
    *,
    slow: int = 0,
    change: Callable[[Path], None] = lambda _: None,
    **changes: Any,
) -> Path:
    """Writes `models/name/version` and returns it.

    Args:
        models: the models folder.
        name: of the model.
        version: of the model.
        slow: as `graph` takes it.
        change: may replace files in the folder before their sha256 goes into the manifest.
        changes: replace what the manifest says.
    """
    folder = models / name / version
    folder.mkdir(parents=True)
    onnx.save(graph(slow), folder / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    np.savez(folder / "golden.npz", images=images, probabilities=answer(images))
    (folder / "report").mkdir()
    (folder / "report" / "README.md").write_text(f"# {name}\n\nTells red, green and blue apart.\n")
    change(folder)
    files = {file: sha256(folder / file) for file in ("model.onnx", "golden.npz")}
    (folder / "manifest.json").write_text(json.dumps({**manifest(), "name": name, "files": files, **changes}))
    return folder


def wrong_golden(folder: Path) -> None:
    """A `change` for `write_model`: the golden file has outputs that the graph does not give."""
    with np.load(folder / "golden.npz") as golden:
        images, probabilities = golden["images"], golden["probabilities"]
    np.savez(folder / "golden.npz", images=images, probabilities=probabilities[:, ::-1])
