"""A trivial network, so that only the cost of serving is measured."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from service.inference.manifest import GOLDEN, MANIFEST, MODEL, sha256
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.registry import read_manifest


def make_tiny(like: Path, root: Path) -> Path:
    """Writes a version with the inputs, labels and manifest of the model in `like`, and almost no arithmetic.

    Args:
        like: the folder of an image classifier's version.
        root: the models folder to write `classifier/1` into.

    Returns:
        The version's folder.
    """
    manifest = read_manifest(like)
    if not isinstance(manifest, ClassifierManifest):
        raise TypeError(f"{like} is not an image classifier")
    height, width, channels = manifest.image.height, manifest.image.width, manifest.image.channels
    labels = len(manifest.labels)
    folder = root / "classifier" / "1"
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("Slice", ["images", "zero", "one", "axis"], ["row"]),
        helper.make_node("Cast", ["row"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "spatial"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    weights = np.random.default_rng(0).normal(size=(channels, labels)).astype(np.float32)
    initializers = [
        helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("spatial", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("scale", TensorProto.FLOAT, [1], [1 / 255]),
        helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", height, width, channels])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", labels])],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / MODEL)
    images = np.zeros((1, height, width, channels), np.uint8)
    uniform = np.full((1, labels), 1 / labels, np.float32)
    np.savez(folder / GOLDEN, images=images, probabilities=uniform)
    files = {name: sha256(folder / name) for name in (MODEL, GOLDEN)}
    # Of the model's own outputs it has the first one alone: how familiar an image is, it cannot tell.
    tiny = manifest.model_copy(
        update={
            "name": "classifier",
            "outputs": manifest.outputs[:1],
            "golden": manifest.golden.model_copy(update={"tolerances": {}}),
            "familiarity": None,
            "files": files,
            "variants": (),
        }
    )
    (folder / MANIFEST).write_text(tiny.model_dump_json())
    return folder
