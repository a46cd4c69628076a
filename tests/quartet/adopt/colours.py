"""Small classifiers of images by their mean colour, in the forms that exporters write; and folders of such images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

LABELS = ("red", "green", "blue")
COLOURS = ((230, 20, 30), (20, 230, 30), (20, 30, 230))
SIZE = 16
_TYPES = {
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}


def classifier(
    path: Path,
    shape: Sequence[int | str] = ("N", 3, SIZE, SIZE),
    *,
    dtype: str = "float32",
    ends: Sequence[tuple[str, dict[str, Any]]] = (),
    fixed: bool = False,
    channels: Sequence[int] = (0, 1, 2),
    scale: float = 8.0,
    metadata: dict[str, str] | None = None,
    opset: int = 17,
    names: tuple[str, str] = ("x", "y"),
) -> Path:
    """Writes a classifier: the logits are the means of the channels.

    Args:
        path: of the file.
        shape: of its input; the channels are where a size is 3 or 1.
        dtype: of its input and output.
        ends: operators after the logits, with their attributes.
        fixed: whether it reshapes to a batch of one.
        channels: which channel is the score of each label.
        scale: of the logits.
        metadata: of the file.
        opset: of the file.
        names: of input and output.
    """
    axis = 1 if shape[1] in (1, 3) else 3
    places = [each for each in (1, 2, 3) if each != axis]
    element = np.dtype("float32" if dtype == "uint8" else dtype)
    constants = {"scale": np.array(scale, element), "order": np.array(channels)}
    nodes = []
    pixels = names[0]
    if dtype == "uint8":
        nodes.append(helper.make_node("Cast", [pixels], ["pixels"], to=TensorProto.FLOAT))
        pixels = "pixels"
    nodes += [
        helper.make_node("ReduceMean", [pixels], ["means"], axes=places, keepdims=0),
        helper.make_node("Gather", ["means", "order"], ["ordered"], axis=1),
        helper.make_node("Mul", ["ordered", "scale"], ["scores_0"]),
    ]
    if fixed:
        constants["one"] = np.array([1, len(channels)])
        nodes.append(helper.make_node("Reshape", ["scores_0", "one"], ["scores_fixed"]))
        nodes.append(helper.make_node("Flatten", ["scores_fixed"], ["scores_1"], axis=1))
    last = nodes[-1].output[0]
    for number, (kind, attributes) in enumerate(ends):
        nodes.append(helper.make_node(kind, [last], [f"end_{number}"], **attributes))
        last = f"end_{number}"
    nodes[-1].output[0] = names[1]
    kind = _TYPES["float32" if dtype == "uint8" else dtype]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info(names[0], _TYPES[dtype], shape)],
        [helper.make_tensor_value_info(names[1], kind, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def labels_file(path: Path, labels: Sequence[str] = LABELS) -> Path:
    """Writes labels, one a line."""
    path.write_text("\n".join(labels) + "\n")
    return path


def picture(label: int, random: np.random.Generator, size: tuple[int, int] = (24, 20)) -> Image.Image:
    """A picture of nearly one colour."""
    noise = random.normal(scale=40, size=(size[1], size[0], 3))
    return Image.fromarray((np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8))


def folders(root: Path, count: int = 60, labels: Sequence[str] = LABELS) -> Path:
    """Writes pictures into folders named after labels; every tenth lies in the wrong one."""
    random = np.random.default_rng(0)
    for index in range(count):
        label = index % len(labels)
        told = (label + 1) % len(labels) if index % 10 == 9 else label
        folder = root / labels[told]
        folder.mkdir(parents=True, exist_ok=True)
        picture(label, random).save(folder / f"{index}.png")
    return root
