"""The detector over HTTP against the bare runtime; and what large photographs cost before and after the network.

Rounds interleave, as in `benchmarks.serving`.
"""

import io
import json
import statistics
import time
from argparse import Namespace
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
from benchmarks.load import measure
from benchmarks.servers import service
from service.inference.manifest import GOLDEN, read_manifest
from service.inference.manifests.detection import DetectorManifest
from service.inference.session import Session
from service.tasks.detection import Box, detections
from service.tasks.drawing import draw_detections
from service.tasks.images import EncodedImage
from service.tasks.letterbox import Letterbox, letterbox

CONCURRENCIES = (1, 8)
BATCHES = (1, 2, 4, 8)
SIZES = {"640x480": (480, 640), "4000x3000": (3000, 4000)}


def main() -> None:
    """Runs the comparison and prints it; `--json` writes it too."""
    arguments = options.parse("benchmarks.detection", __doc__, rounds=4)
    console = Console()
    folder = arguments.models / "detector" / "1"
    manifest = read_manifest(folder)
    if not isinstance(manifest, DetectorManifest):
        raise SystemExit(f"error: {folder} is no detector")
    frames = np.load(folder / GOLDEN)["images"]
    figures = {
        "http": _http(arguments, folder, frames, console),
        "around": _around(manifest, frames, console),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def _http(arguments: Namespace, folder: Path, frames: Any, console: Console) -> list[dict[str, float]]:
    """Images a second and latency through /v1/detect, against the bare session at its best batch."""
    session = Session(folder / "model.onnx", "cpu")
    photographs = [_jpeg(frame, *SIZES["640x480"]) for frame in frames]
    bare: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    served: dict[int, list[tuple[float, float]]] = {concurrency: [] for concurrency in CONCURRENCIES}
    with service(arguments.models) as running:
        measure(running.port, "/v1/detect", photographs, 8, 1)  # warm
        for _ in range(arguments.rounds):
            for batch in BATCHES:
                bare[batch].append(bare_rate(session, frames, batch, arguments.seconds / 2))
            for concurrency in CONCURRENCIES:
                load = measure(running.port, "/v1/detect", photographs, concurrency, arguments.seconds)
                served[concurrency].append((load.rate, load.median_ms))
    best = max(BATCHES, key=lambda batch: statistics.median(bare[batch]))
    ceiling, alone = statistics.median(bare[best]), statistics.median(bare[1])
    table = Table(title=f"/v1/detect, 640x480: bare session {ceiling:.1f} images/s (batch {best}), alone {alone:.1f}")
    for column in ("at a time", "images/s", "of bare", "median ms"):
        table.add_column(column, justify="right")
    rows = []
    for concurrency, values in served.items():
        row = {
            "concurrency": float(concurrency),
            "rate": statistics.median(rate for rate, _ in values),
            "of_bare": statistics.median(rate / top for (rate, _), top in zip(values, bare[best], strict=True)),
            "median_ms": statistics.median(latency for _, latency in values),
        }
        rows.append(row)
        table.add_row(str(concurrency), f"{row['rate']:.1f}", f"{row['of_bare']:.2f}", f"{row['median_ms']:.1f}")
    console.print(table)
    return rows


def _around(manifest: DetectorManifest, frames: Any, console: Console) -> dict[str, dict[str, float]]:
    """Milliseconds of what is done around the network, for a small and a large photograph."""
    height, width = manifest.image.height, manifest.image.width
    answer = (
        np.tile(np.array([[100, 80, 160, 140]], np.float32), (20, 1)) + np.arange(20, dtype=np.float32)[:, None] * 8,
        np.full(20, 0.9, np.float32),
        np.arange(20) % len(manifest.labels),
    )
    table = Table(title="around the network, ms")
    for column in ("photograph", "decode", "decode and letterbox", "read boxes", "decode and draw 20 boxes"):
        table.add_column(column, justify="right")
    figures = {}
    for name, size in SIZES.items():
        data = _jpeg(frames[0], *size)
        _, place = letterbox(EncodedImage.open(data), height, width)
        read = partial(detections, answer, place, manifest.labels, confidence=0.5, most=300)
        boxes = read()
        times = {
            "decode": _milliseconds(partial(_decode, data, place)),
            "letterbox": _milliseconds(partial(_into_frame, data, height, width)),
            "boxes": _milliseconds(read),
            "draw": _milliseconds(partial(_draw, data, boxes)),
        }
        figures[name] = times
        table.add_row(name, *(f"{value:.2f}" for value in times.values()))
    console.print(table)
    return figures


def _decode(data: bytes, place: Letterbox) -> None:
    EncodedImage.open(data).decode(3, place.content_height, place.content_width)


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
