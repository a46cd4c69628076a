"""A tiny but real detector: finds the red, the green and the blue area of an image, one box per colour."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.inference.manifest import sha256
from service.tasks.detection.letterbox import FILL

LABELS = ("red", "green", "blue")
HEIGHT, WIDTH = 48, 64
# A pixel has a colour if one channel exceeds the sum of the others by more than this.
_DOMINANCE = 0.3


def answer(images: np.ndarray) -> dict[str, np.ndarray]:
    """What the graph gives for uint8 pixels of shape (batch, 48, 64, 3)."""
    shares = images.astype(np.float32) / 255
    dominance = 2 * shares - shares.sum(-1, keepdims=True)
    boxes, scores, classes = (np.zeros((len(images), 3, *tail), kind) for tail, kind in
                              (((4,), np.float32), ((), np.float32), ((), np.int64)))  # fmt: skip
    for image, strength in enumerate(dominance):
        best = np.where(strength > _DOMINANCE, strength, 0).max((0, 1))
        for rank, label in enumerate(np.argsort(-best, kind="stable")):
            if best[label] > 0:
                y, x = np.nonzero(strength[..., label] > _DOMINANCE)
                boxes[image, rank] = x.min(), y.min(), x.max() + 1, y.max() + 1
                scores[image, rank], classes[image, rank] = best[label], label
    return {"boxes": boxes, "scores": scores, "classes": classes}


def graph() -> onnx.ModelProto:
    """The graph."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    # (1, height, width, 1, corner): the lower bounds of each pixel's x and y; the upper bounds are one more.
    low = np.stack((x, y), -1)[None, :, :, None]
    constants = {
        "scale": np.float32(255),
        "two": np.float32(2),
        "least": np.float32(_DOMINANCE),
        "zero": np.float32(0),
        "none": np.int64(0),
        "low": low,
        "high": low + 1,
        "far": np.float32(1e4),
        "spatial": np.array([1, 2], np.int64),
        "last": np.array([-1], np.int64),
        "most": np.array([3], np.int64),
        "corners": np.array([1, 1, 4], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "scale"], ["shares"]),
        helper.make_node("ReduceSum", ["shares", "last"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["shares", "two"], ["double"]),
        helper.make_node("Sub", ["double", "sum"], ["dominance"]),
        helper.make_node("Greater", ["dominance", "least"], ["mask"]),
        helper.make_node("Where", ["mask", "dominance", "zero"], ["strength"]),
        helper.make_node("ReduceMax", ["strength", "spatial"], ["best"], keepdims=0),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Neg", ["far"], ["near"]),
        helper.make_node("Where", ["wide", "low", "far"], ["lows"]),
        helper.make_node("Where", ["wide", "high", "near"], ["highs"]),
        helper.make_node("ReduceMin", ["lows", "spatial"], ["from"], keepdims=0),
        helper.make_node("ReduceMax", ["highs", "spatial"], ["to"], keepdims=0),
        helper.make_node("Concat", ["from", "to"], ["areas"], axis=-1),
        helper.make_node("TopK", ["best", "most"], ["scores", "order"]),
        helper.make_node("Unsqueeze", ["order", "last"], ["row"]),
        helper.make_node("Expand", ["row", "corners"], ["rows"]),
        helper.make_node("GatherElements", ["areas", "rows"], ["chosen"], axis=1),
        helper.make_node("Greater", ["scores", "zero"], ["found"]),
        helper.make_node("Unsqueeze", ["found", "last"], ["real"]),
        helper.make_node("Where", ["real", "chosen", "zero"], ["boxes"]),
        helper.make_node("Where", ["found", "order", "none"], ["classes"]),
    ]
    outputs = (("boxes", TensorProto.FLOAT, 4), ("scores", TensorProto.FLOAT, 0), ("classes", TensorProto.INT64, 0))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", HEIGHT, WIDTH, 3])],
            [
                helper.make_tensor_value_info(name, kind, ["batch", 3, *([extra] if extra else [])])
                for name, kind, extra in outputs
            ],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def curve(precision: list[float], recall: list[float]) -> dict[str, list[float]]:
    """Points with their F1."""
    f1 = [2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precision, recall, strict=True)]
    return {"precision": precision, "recall": recall, "f1": f1}


def manifest(name: str = "detector", **changes: Any) -> dict[str, Any]:
    """A manifest of the graph, without the `files`.

    At a threshold t precision is 0.5 + 0.45 t and recall is 1 - t squared; at 1 nothing is found.
    """
    thresholds = [round(step / 100, 2) for step in range(101)]
    points = curve([0.5 + 0.45 * t for t in thresholds[:-1]] + [1.0], [1 - t * t for t in thresholds])
    return {
        "name": name,
        "description": "three colours",
        "inputs": [{"name": "images", "dtype": "uint8", "shape": [-1, HEIGHT, WIDTH, 3]}],
        "outputs": [
            {"name": "boxes", "dtype": "float32", "shape": [-1, 3, 4]},
            {"name": "scores", "dtype": "float32", "shape": [-1, 3]},
            {"name": "classes", "dtype": "int64", "shape": [-1, 3]},
        ],
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
        "golden": {
            "rows": 4,
            "atol": 1e-5,
            "lists": {
                "order": "scores",
                "above": 0.1,
                "tolerances": {"boxes": 0.5, "scores": 1e-3, "classes": 0.5},
            },
        },
        "task": "detection",
        "labels": list(LABELS),
        "image": {"height": HEIGHT, "width": WIDTH, "channels": 3},
        "suppression": {"iou": 0.6, "floor": 0.01, "max_detections": 3},
        "metrics": {
            "map_50": 0.9,
            "map_75": 0.7,
            "map": 0.6,
            "validation_map": 0.6,
            "per_class": [{"label": label, "ap_50": 0.9, "ap_75": 0.7, "ap": 0.6, "support": 10} for label in LABELS],
        },
        "curves": {"confidence": thresholds, "overall": points, "per_class": dict.fromkeys(LABELS, points)},
        **changes,
    }


def write_detector(models: Path, name: str = "detector", version: str = "1", **changes: Any) -> Path:
    """Writes `models/name/version` and returns it; `changes` replace what the manifest says."""
    folder = models / name / version
    folder.mkdir(parents=True)
    onnx.save(graph(), folder / "model.onnx")
    images = np.stack([scene(seed=seed) for seed in range(4)])
    np.savez(folder / "golden.npz", images=images, **answer(images))
    files = {file: sha256(folder / file) for file in ("model.onnx", "golden.npz")}
    (folder / "manifest.json").write_text(json.dumps({**manifest(), "name": name, "files": files, **changes}))
    return folder


def scene(height: int = HEIGHT, width: int = WIDTH, seed: int = 0, **areas: tuple[int, int, int, int]) -> np.ndarray:
    """A grey image with coloured areas (x_min, y_min, x_max, y_max), by default a random one of each colour."""
    random = np.random.default_rng(seed)
    if not areas:
        for label in LABELS:
            x, y = random.integers(0, width - 8), random.integers(0, height - 8)
            areas[label] = (x, y, x + random.integers(3, 9), y + random.integers(3, 9))
    pixels = np.full((height, width, 3), FILL, dtype=np.uint8)
    for label, (x_min, y_min, x_max, y_max) in areas.items():
        pixels[y_min:y_max, x_min:x_max] = 10
        # The colours differ in strength, so that the order of the detections is well defined.
        pixels[y_min:y_max, x_min:x_max, LABELS.index(label)] = 240 - 25 * LABELS.index(label)
    return pixels
