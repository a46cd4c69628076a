"""Writes models/: a small model of every form that committed manifests have had, from the history of this repository.

A model has the manifest as it was committed, the graph of `stand_in`, whose tensors have the same names and shapes, and
its golden file. Run this in a clone with all commits, after a release whose manifests have another form:

python -m tests.compatibility.write_models
"""

import io
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from quartet.adopt.command_line import main as adopt
from service.inference.manifest import sha256
from tests.quartet.adopt.colours import classifier, labels_file
from tests.quartet.adopt.graphs import linear, save

FOLDER = Path(__file__).parent / "models"
# By the folder of a form: the commits that have it, each with its models.
FORMS = {
    # Tasks have other names.
    "1-first": {
        "e8e1de5": ["classifier"],
        "ea6bad6": ["detector"],
        "a68eaef": ["autoencoder", "encoder", "decoder"],
        "7081791": ["tabular", "topics"],
    },
    # Variants; the detector has curves of both splits.
    "2-variants": {"53a8014": ["classifier"], "e0219f0": ["detector"]},
    # Out-of-distribution scores and intervals.
    "3-familiarity": {
        "589f0b2": ["classifier-transfer"],
        "a2d3cbb": ["classifier"],
        "61679cf": ["detector"],
        "7ee67ad": ["autoencoder", "encoder", "decoder"],
        "c47c7ec": ["tabular"],
        "848b77b": ["topics"],
    },
    # How a version was made, step by step.
    "4-history": {"97e13d8": ["classifier", "detector", "encoder", "topics"]},
    # Calibrated on items that are used for nothing else; true labels of the golden inputs.
    "5-labels": {
        "21d8140": ["autoencoder", "decoder", "detector", "encoder"],
        "4fc8f3b": ["classifier", "classifier-transfer", "tabular", "topics"],
    },
    # Histograms of the validation split.
    "7-histograms": {"114cbe08": ["classifier", "decoder", "tabular", "topics"]},
}
# Graphs from elsewhere, as `quartet adopt` writes them; no commit has one.
ADOPTED = "6-adopted"
ROWS = 2
WORDS = 40
_OPSET, _IR = 18, 9


def main() -> None:
    """Writes those that are missing: what was written once stays as it is."""
    for form, commits in FORMS.items():
        for commit, names in commits.items():
            for name in names:
                if not (FOLDER / form / name).exists():
                    write(commit, name, FOLDER / form / name / "1")
    if not (FOLDER / ADOPTED).exists():
        _adopt(FOLDER / ADOPTED)


def _adopt(models: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        labels = labels_file(Path(name) / "labels.txt")
        plain, colours = save(linear(), Path(name)), classifier(Path(name) / "colours.onnx")
        for command in (
            ["adopt", str(plain), "--name", "plain", "--models", str(models)],
            ["adopt", str(colours), "--name", "colours", "--models", str(models), "--task", "classification",
             "--labels", str(labels), "--preprocessing", "unit"],
        ):  # fmt: skip
            assert adopt(command) == 0, command


def write(commit: str, name: str, folder: Path) -> None:
    """Writes the small model of a committed one."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = json.loads(_committed(commit, name, "manifest.json"))
    if "words" in manifest:
        manifest["words"] = WORDS
        (folder / "tokenizer.json").write_text(_small_tokenizer(_committed(commit, name, "tokenizer.json")))
    if "density.npz" in manifest["files"]:
        with np.load(io.BytesIO(_committed(commit, name, "density.npz"))) as density:
            # One Gaussian for each class.
            kept = {each: array[:, :1] if array.ndim > 1 else array for each, array in density.items()}
        np.savez_compressed(folder / "density.npz", **{**kept, "weights": np.ones_like(kept["weights"])})
    inputs = {spec["name"]: _inputs(spec) for spec in manifest["inputs"]}
    for number, graph in enumerate([manifest, *manifest.get("variants", [])]):
        file, golden = graph.get("file", "model.onnx"), graph["golden"]
        onnx.save(stand_in(manifest, 1 + number / 100), folder / file)
        session = ort.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
        answers = dict(zip((each.name for each in session.get_outputs()), session.run(None, inputs), strict=True))
        np.savez_compressed(folder / golden.get("file", "golden.npz"), **inputs, **answers)
        golden["rows"] = ROWS
        if "labels" in golden:
            golden["labels"] = golden["labels"][:ROWS]
    for curves in (manifest.get("curves"), manifest.get("test_curves")):
        if curves:
            _shorten(curves)
    manifest["files"] = {file: sha256(folder / file) for file in sorted(manifest["files"]) if (folder / file).exists()}
    (folder / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")) + "\n")


def stand_in(manifest: dict[str, Any], scale: float) -> onnx.ModelProto:
    """A graph with the tensors that a manifest states: the sum of an item's input decides on all outputs."""
    (given,) = manifest["inputs"]
    fixed = [size for size in given["shape"][1:] if size > 0]
    axes = list(range(1, len(given["shape"])))
    constants = {
        "axes": np.array(axes, np.int64),
        "scale": np.array(scale / max(1, np.prod(fixed, dtype=int)) / 50, np.float32),
    }
    nodes = [
        helper.make_node("Cast", [given["name"]], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "scale"], ["scaled"]),
        helper.make_node("Sigmoid", ["scaled"], ["share"]),
    ]
    for spec in manifest["outputs"]:
        name, sizes = spec["name"], spec["shape"][1:]
        constants[f"{name}.shape"] = np.array([-1, *[1] * len(sizes)], np.int64)
        constants[f"{name}.weights"] = _weights(name, sizes, manifest)
        nodes += [
            helper.make_node("Reshape", ["share", f"{name}.shape"], [f"{name}.share"]),
            helper.make_node("Mul", [f"{name}.share", f"{name}.weights"], [f"{name}.product"]),
        ]
        product = f"{name}.product"
        if name == "probabilities":
            nodes.append(helper.make_node("Softmax", [product], [f"{name}.softmax"], axis=-1))
            product = f"{name}.softmax"
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec["dtype"]))
        nodes.append(helper.make_node("Cast", [product], [name], to=kind))
    graph = helper.make_graph(
        nodes,
        "stand_in",
        [_info(spec) for spec in manifest["inputs"]],
        [_info(spec) for spec in manifest["outputs"]],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    return model


def _weights(name: str, sizes: list[int], manifest: dict[str, Any]) -> np.ndarray:
    """What a share between 0 and 1 is multiplied by; shape (1, *sizes)."""
    if name == "boxes":
        height, width = manifest["image"]["height"], manifest["image"]["width"]
        return np.broadcast_to(np.array([0, 0, width / 2, height / 2], np.float32), (1, *sizes)).copy()
    if name == "classes":
        return np.zeros((1, *sizes), np.float32)
    most = 255.0 if name in ("images", "restored") else 1.0
    return np.linspace(most, most / 10, int(np.prod(sizes)) or 1, dtype=np.float32).reshape(1, *sizes)


def _inputs(spec: dict[str, Any]) -> np.ndarray:
    """Golden inputs: a shade, an index of a word or a number for each row."""
    shape = [ROWS, *(5 if size < 0 else size for size in spec["shape"][1:])]
    values = np.arange(2, 2 + ROWS).reshape(-1, *[1] * (len(shape) - 1)) * (40 if spec["dtype"] == "uint8" else 1)
    if spec["dtype"] == "float32":
        values = values / 10
    return np.broadcast_to(values, shape).astype(spec["dtype"])


def _info(spec: dict[str, Any]) -> onnx.ValueInfoProto:
    axes = ["batch", *(f"axis{axis}" if size < 0 else size for axis, size in enumerate(spec["shape"][1:], 1))]
    return helper.make_tensor_value_info(spec["name"], helper.np_dtype_to_tensor_dtype(np.dtype(spec["dtype"])), axes)


def _small_tokenizer(content: bytes) -> str:
    tokenizer = json.loads(content)
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {word: index for word, index in vocabulary.items() if index < WORDS}
    return json.dumps(tokenizer, indent=1) + "\n"


def _shorten(curves: dict[str, Any]) -> None:
    """Rounds the figures of a detector's curves, which are most of its manifest."""
    for curve in (curves["overall"], *curves["per_class"].values()):
        for figure, values in curve.items():
            curve[figure] = [round(value, 2) for value in values]


def _committed(commit: str, name: str, file: str) -> bytes:
    return subprocess.run(["git", "show", f"{commit}:models/{name}/1/{file}"], capture_output=True, check=True).stdout


if __name__ == "__main__":
    main()
