"""The detector over HTTP compared with ONNX Runtime alone; and pre- and postprocessing of large photographs.

Rounds are interleaved, as in `benchmarks.serving`.
"""

import io
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import options
from benchmarks.bare import bare_rate
from benchmarks.comparison import Route, Workload, compare
from benchmarks.results import Recorder
from benchmarks.servers import service
from service.inference.manifest import GOLDEN
from service.inference.session import Session
from service.tasks.detection.boxes import Box, detections
from service.tasks.detection.drawing import draw_detections
from service.tasks.detection.letterbox import Letterbox, letterbox
from service.tasks.detection.manifest import DetectorManifest
from service.tasks.images import EncodedImage
from service.tasks.registry import read_manifest

CONCURRENCIES = (1, 8)
BATCHES = (1, 2, 4, 8)
SIZES = {"640x480": (480, 640), "4000x3000": (3000, 4000)}


def main() -> None:
    """Runs the comparison and prints it; `--json` also writes it to a file."""
    arguments = options.parse("benchmarks.detection", __doc__, rounds=4)
    console = Recorder()
    folder = options.newest(arguments.models, "detector")
    manifest = read_manifest(folder)
    if not isinstance(manifest, DetectorManifest):
        raise SystemExit(f"error: {folder} is not a detector")
    frames = np.load(folder / GOLDEN)["images"]
    with service(arguments.models, {"variant": "reference"}) as running:
        http = compare(_route(folder, frames), running.port, arguments.rounds, arguments.seconds, console)
    figures = {"http": http, "around": _processing_times(manifest, frames, console)}
    console.write(arguments.json, "benchmarks.detection", figures)


def _route(folder: Path, frames: Any) -> Route:
    """The workloads on photographs of the same size as those of the data set."""
    session = Session(folder / "model.onnx", "cpu")
    photographs = [_jpeg(frame, *SIZES["640x480"]) for frame in frames]
    return Route(
        "detector",
        {batch: partial(bare_rate, session, frames, batch) for batch in BATCHES},
        [Workload("640x480", "/v1/detect", "image/jpeg", photographs, 1, concurrency) for concurrency in CONCURRENCIES],
    )


def _processing_times(manifest: DetectorManifest, frames: Any, console: Console) -> dict[str, dict[str, float]]:
    """Milliseconds of pre- and postprocessing, for a small and a large photograph."""
    height, width = manifest.image.height, manifest.image.width
    answer = (
        np.tile(np.array([[100, 80, 160, 140]], np.float32), (20, 1)) + np.arange(20, dtype=np.float32)[:, None] * 8,
        np.full(20, 0.9, np.float32),
        np.arange(20) % len(manifest.labels),
    )
    table = Table(title="pre- and postprocessing, ms")
    for column in ("photograph", "decode", "decode and letterbox", "decode boxes", "decode and draw 20 boxes"):
        table.add_column(column, justify="right")
    figures = {}
    for name, size in SIZES.items():
        data = _jpeg(frames[0], *size)
        _, geometry = letterbox(EncodedImage.open(data), height, width)
        read = partial(detections, answer, geometry, manifest.labels, confidence=0.5, most=300)
        boxes = read()
        times = {
            "decode": _milliseconds(partial(_decode, data, geometry)),
            "letterbox": _milliseconds(partial(_into_frame, data, height, width)),
            "boxes": _milliseconds(read),
            "draw": _milliseconds(partial(_draw, data, boxes)),
        }
        figures[name] = times
        table.add_row(name, *(f"{value:.2f}" for value in times.values()))
    console.print(table)
    return figures


def _decode(data: bytes, geometry: Letterbox) -> None:
    EncodedImage.open(data).decode(3, geometry.content_height, geometry.content_width)


def _into_frame(data: bytes, height: int, width: int) -> None:
    letterbox(EncodedImage.open(data), height, width)


def _draw(data: bytes, boxes: list[Box]) -> None:
    draw_detections(EncodedImage.open(data), boxes)


def _milliseconds(work: Callable[[], Any], repeats: int = 30) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def _jpeg(frame: Any, height: int, width: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
