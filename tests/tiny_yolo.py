"""A tiny but real YOLO export: each cell of 8 pixels has a box of 16, whose scores are its red, green and blue."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

from quartet.adopt.yolo import Head

LABELS = ("red", "green", "blue")
HEIGHT, WIDTH = 32, 64
CELLS = (HEIGHT // 8) * (WIDTH // 8)
METADATA = {"task": "detect", "names": "{0: 'red', 1: 'green', 2: 'blue'}", "imgsz": "[32, 64]", "stride": "8"}

# What comes after the scores (batch, labels, cells) and the boxes (batch, 4, cells).
_HEADS: Mapping[Head, str] = {
    "yolov8": "output0 = Concat <axis = 1> (boxes, scores)",
    "yolov5": """
        first = Slice (scores, from_0, to_1, axis_1)
        none = Mul (first, zero)
        certain = Add (none, one)
        columns = Concat <axis = 1> (boxes, certain, scores)
        output0 = Transpose <perm = [0, 2, 1]> (columns)""",
    "end2end": """
        best = ReduceMax <axes = [1], keepdims = 1> (scores)
        index = ArgMax <axis = 1, keepdims = 1> (scores)
        label = Cast <to = 1> (index)
        centre = Slice (boxes, from_0, to_2, axis_1)
        size = Slice (boxes, to_2, to_4, axis_1)
        half = Mul (size, a_half)
        low = Sub (centre, half)
        high = Add (centre, half)
        columns = Concat <axis = 1> (low, high, best, label)
        output0 = Transpose <perm = [0, 2, 1]> (columns)""",
}


def yolo(head: Head = "yolov8", *, batch: int | str = "batch", **metadata: str) -> onnx.ModelProto:
    """The export: float32 pixels (batch, 3, 32, 64) between 0 and 1, and the output `output0`.

    Args:
        head: how it lists boxes.
        batch: of its input; a number is written into a Reshape as well, as torch's exporter does.
        **metadata: beside `METADATA`, or instead of it.
    """
    columns = {"yolov8": f"7, {CELLS}", "yolov5": f"{CELLS}, 8", "end2end": f"{CELLS}, 6"}[head]
    graph = parser.parse_graph(f"""
        yolo (float[{batch}, 3, {HEIGHT}, {WIDTH}] images) => (float[{batch}, {columns}] output0)
        <int64[1] from_0 = {{0}}, int64[1] to_1 = {{1}}, int64[1] to_2 = {{2}}, int64[1] to_4 = {{4}},
         int64[1] axis_1 = {{1}}, float zero = {{0.0}}, float one = {{1.0}}, float a_half = {{0.5}}> {{
            means = AveragePool <kernel_shape = [8, 8], strides = [8, 8]> (images)
            scores = Reshape (means, cells)
            red = Slice (scores, from_0, to_1, axis_1)
            nothing = Mul (red, zero)
            boxes = Add (nothing, grid)
            {_HEADS[head]}
        }}""")
    y, x = np.mgrid[0:HEIGHT:8, 0:WIDTH:8].reshape(2, -1) + 4
    grid = np.stack([x, y, np.full(CELLS, 16), np.full(CELLS, 16)]).astype(np.float32)
    first = 0 if isinstance(batch, str) else batch
    graph.initializer.extend(
        [numpy_helper.from_array(grid[None], "grid"), numpy_helper.from_array(np.array([first, 3, CELLS]), "cells")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="tests")
    for key, value in {**METADATA, **metadata}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    return model


def write_yolo(path: Path, model: onnx.ModelProto) -> Path:
    """Saves an export."""
    onnx.save(model, path)
    return path


def scene(*squares: tuple[int, int, int]) -> np.ndarray:
    """uint8 pixels (32, 64, 3): black, with cells (row, column, channel) of full colour."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for row, column, channel in squares:
        pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, channel] = 255
    return pixels
