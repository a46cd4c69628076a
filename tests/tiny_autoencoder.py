"""A tiny but real autoencoder: 4 x 4 grey pixels to the brightness of the four quarters, and back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.inference.manifest import sha256
from service.tasks.autoencoder.density import Density
from service.tasks.autoencoder.manifest import DENSITY

LABELS = ("dark", "light")
SIDE, LATENT = 4, 4
_INT = {"quarters": [-1, 2, 2, 2, 2, 1], "inside": [2, 4, 5], "code": [-1, 4], "cells": [-1, 2, 1, 2, 1, 1],
        "repeats": [1, 1, 2, 1, 2, 1], "shape": [-1, SIDE, SIDE, 1], "all": [1, 2, 3]}  # fmt: skip
_FLOAT = {"scale": 255.0, "half": 0.5, "none": 0.0, "one": 1.0}
_TO_FLOAT = [
    helper.make_node("Cast", ["images"], ["bytes"], to=TensorProto.FLOAT),
    helper.make_node("Div", ["bytes", "scale"], ["pixels"]),
]
_ENCODE = [
    helper.make_node("Reshape", ["pixels", "quarters"], ["split"]),
    helper.make_node("ReduceMean", ["split", "inside"], ["means"], keepdims=0),
    helper.make_node("Reshape", ["means", "code"], ["latents"]),
]
_DECODE = [
    helper.make_node("Clip", ["latents", "none", "one"], ["clipped"]),
    helper.make_node("Reshape", ["clipped", "cells"], ["cell"]),
    helper.make_node("Tile", ["cell", "repeats"], ["tiled"]),
    helper.make_node("Reshape", ["tiled", "shape"], ["restored_pixels"]),
    helper.make_node("Mul", ["restored_pixels", "scale"], ["large"]),
    helper.make_node("Add", ["large", "half"], ["raised"]),
    helper.make_node("Floor", ["raised"], ["whole"]),
]
_ERROR = [
    helper.make_node("Sub", ["restored_pixels", "pixels"], ["gap"]),
    helper.make_node("Mul", ["gap", "gap"], ["square"]),
    helper.make_node("ReduceMean", ["square", "all"], ["error"], keepdims=0),
]
_IMAGES = ("uint8", [SIDE, SIDE, 1])
PARTS: dict[str, dict[str, Any]] = {
    "autoencoder": {
        "task": "autoencoder",
        "nodes": [*_TO_FLOAT, *_ENCODE, *_DECODE, *_ERROR, helper.make_node("Cast", ["whole"], ["restored"], to=2)],
        "inputs": {"images": _IMAGES},
        "outputs": {"restored": _IMAGES, "error": ("float32", [])},
    },
    "encoder": {
        "task": "encoder",
        "nodes": [*_TO_FLOAT, *_ENCODE],
        "inputs": {"images": _IMAGES},
        "outputs": {"latents": ("float32", [LATENT])},
    },
    "decoder": {
        "task": "decoder",
        "nodes": [*_DECODE, helper.make_node("Cast", ["whole"], ["images"], to=2)],
        "inputs": {"latents": ("float32", [LATENT])},
        "outputs": {"images": _IMAGES},
    },
}
_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def decoded(latents: np.ndarray) -> np.ndarray:
    """What the decoder gives, uint8, shape (n, 4, 4, 1)."""
    cells = np.floor(np.clip(latents, 0, 1).astype(np.float32) * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return cells.reshape(-1, 2, 2).repeat(2, 1).repeat(2, 2)[..., None]


def density() -> Density:
    """Dark images centred at 0.2, light ones at 0.8."""
    means = np.array([[[0.2] * LATENT], [[0.8] * LATENT]], np.float32)
    factors = np.broadcast_to(np.eye(LATENT, dtype=np.float32) * 0.05, (2, 1, LATENT, LATENT)).copy()
    return Density(np.array([0.5, 0.5], np.float32), np.ones((2, 1), np.float32), means, factors)


def graph(part: str) -> onnx.ModelProto:
    """The graph of one of `PARTS`."""
    made = PARTS[part]

    def tensors(specs: dict[str, Any]) -> list[Any]:
        return [
            helper.make_tensor_value_info(name, _TYPES[kind], ["batch", *shape])
            for name, (kind, shape) in specs.items()
        ]

    used = {name for node in made["nodes"] for name in node.input}
    constants = [numpy_helper.from_array(np.array(v, np.int64), name) for name, v in _INT.items() if name in used]
    constants += [numpy_helper.from_array(np.float32(v), name) for name, v in _FLOAT.items() if name in used]
    model = helper.make_model(
        helper.make_graph(made["nodes"], "tiny", tensors(made["inputs"]), tensors(made["outputs"]), constants),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return model


def manifest(part: str, **changes: Any) -> dict[str, Any]:
    """A manifest of one of `PARTS`, without the `files`."""
    made = PARTS[part]

    def tensors(specs: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"name": name, "dtype": kind, "shape": [-1, *shape]} for name, (kind, shape) in specs.items()]

    return {
        "name": part,
        "description": "quarters",
        "inputs": tensors(made["inputs"]),
        "outputs": tensors(made["outputs"]),
        "max_batch": 16,
        "data": {"name": "quarters", "fingerprint": "sha256:0", "train": 30, "validation": 30, "test": 30},
        "training": {
            "recipe": "by hand",
            "settings": {"seed": 0},
            "epochs_run": 0,
            "best_epoch": 0,
            "seconds": 0.0,
            "parameters": 0,
            "versions": {"onnx": onnx.__version__},
        },
        "golden": {"rows": 4, "atol": 1.0},
        "task": made["task"],
        "labels": list(LABELS),
        "image": {"height": SIDE, "width": SIDE, "channels": 1, "background": 0.0},
        "latent": LATENT,
        "metrics": {
            "mse": 0.001,
            "validation_mse": 0.001,
            "pca_mse": 0.01,
            "judge_accuracy": 0.99,
            "judge_agreement": 0.98,
            "frechet_generated": 2.0,
            "frechet_restored": 1.0,
            "frechet_train": 0.1,
            "linear_latents": 0.97,
            "linear_pixels": 0.92,
        },
        **changes,
    }


def write_autoencoder(models: Path) -> None:
    """Writes the three models, version 1, below `models`."""
    images = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 1), dtype=np.uint8)
    pixels = images.astype(np.float32) / np.float32(255)
    latents = pixels.reshape(4, 2, 2, 2, 2).mean((2, 4), dtype=np.float32).reshape(4, 4)
    restored = decoded(latents)
    error = np.square(latents.reshape(4, 2, 2).repeat(2, 1).repeat(2, 2)[..., None] - pixels).mean((1, 2, 3))
    golden = {
        "autoencoder": {"images": images, "restored": restored, "error": error},
        "encoder": {"images": images, "latents": latents},
        "decoder": {"latents": latents, "images": restored},
    }
    for part in PARTS:
        folder = models / part / "1"
        folder.mkdir(parents=True)
        onnx.save(graph(part), folder / "model.onnx")
        np.savez(folder / "golden.npz", **golden[part])
        if part == "decoder":
            density().save(folder / DENSITY)
        files = {path.name: sha256(path) for path in folder.iterdir()}
        (folder / "manifest.json").write_text(json.dumps({**manifest(part), "files": files}))
