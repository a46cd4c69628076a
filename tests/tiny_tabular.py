"""Real tabular models that cost nothing: two columns, to the larger of them or to their sum."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.inference.manifest import sha256
from tests.tiny import manifest as image_manifest

COLUMNS = ("mean radius", "area")
LABELS = ("radius", "area")


def write_tabular(models: Path, name: str = "tabular", kind: str = "classification") -> None:
    """Writes `name/1` below `models`; a missing value counts as 0."""
    folder = models / name / "1"
    folder.mkdir(parents=True)
    rows = np.array([[1, 2], [3, np.nan]], np.float32)
    filled = np.nan_to_num(rows)
    nodes = [
        helper.make_node("IsNaN", ["rows"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "rows"], ["known"]),
        # Sums of the largest floats must stay finite.
        helper.make_node("Clip", ["known", "least", "most"], ["values"]),
    ]
    if kind == "classification":
        nodes.append(helper.make_node("Softmax", ["values"], ["answers"], axis=-1))
        powers = np.exp(filled)
        answers = powers / powers.sum(1, keepdims=True)
    else:
        nodes.append(helper.make_node("ReduceSum", ["values", "columns"], ["answers"], keepdims=1))
        answers = filled.sum(1, keepdims=True)
    constants = {
        "zero": np.float32(0),
        "least": np.float32(-1e6),
        "most": np.float32(1e6),
        "columns": np.array([1], np.int64),
    }
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", len(COLUMNS)])],
            [helper.make_tensor_value_info("answers", TensorProto.FLOAT, ["batch", answers.shape[1]])],
            [numpy_helper.from_array(np.asarray(value), constant) for constant, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "golden.npz", rows=rows, answers=answers.astype(np.float32))
    written = {
        key: value for key, value in image_manifest().items() if key not in ("image", "conformal", "metrics")
    } | {
        "name": name,
        "task": "tabular",
        "kind": kind,
        "target": "largest",
        "labels": LABELS if kind == "classification" else (),
        "columns": [{"name": column, "mean": 1, "std": 1, "low": 0, "high": 2, "missing": 0} for column in COLUMNS],
        "metrics": {"cross_validated": {}},
        "inputs": [{"name": "rows", "dtype": "float32", "shape": [-1, len(COLUMNS)]}],
        "outputs": [{"name": "answers", "dtype": "float32", "shape": [-1, answers.shape[1]]}],
        "golden": {"rows": 2, "atol": 1e-5},
        "files": {path.name: sha256(path) for path in folder.iterdir()},
    }
    (folder / "manifest.json").write_text(json.dumps(written))
