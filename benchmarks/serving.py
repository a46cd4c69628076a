"""The classifier over HTTP compared with ONNX Runtime alone and with a hand-written FastAPI app.

Rounds are interleaved, so that noise on the machine affects every candidate alike; medians and ratios are of one run.
"""

import io
import json
import platform
import shutil
import statistics
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import options
from benchmarks.bare import bare_rate
from benchmarks.load import measure
from benchmarks.servers import Running, handwritten, service
from benchmarks.tiny import make_tiny
from service.inference.device import available_cpus
from service.inference.manifest import GOLDEN
from service.inference.session import Session

CONCURRENCIES = (1, 8, 32, 64)
BATCHES = (1, 8, 16, 32, 64)


def main() -> None:
    """Runs the comparison and prints it; `--json` also writes it to a file."""
    arguments = options.parse("benchmarks.serving", __doc__, rounds=5)
    console = Console()
    folder = options.newest(arguments.models, "classifier")
    golden = np.load(folder / GOLDEN)["images"]
    images = [as_jpeg(pixels) for pixels in golden]

    figures: dict[str, Any] = {
        "machine": {"cpus": available_cpus(), "platform": platform.platform(), "client": _client()},
        "process": _process_figures(arguments.models),
        "classifier": _compare(arguments, arguments.models, folder, golden, images, console, "the committed CNN"),
    }
    with tempfile.TemporaryDirectory() as scratch:
        tiny = make_tiny(folder, Path(scratch))
        figures["tiny"] = _compare(arguments, Path(scratch), tiny, golden, images, console, "a trivial network")
    process = figures["process"]
    console.print(
        f"start to ready {process['seconds_to_ready']:.2f} s, resident {process['resident_mb']:.0f} MB, "
        f"idle CPU {process['idle_cpu_percent']:.2f} %"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def _compare(
    arguments: Namespace,
    models: Path,
    folder: Path,
    golden: npt.NDArray[np.uint8],
    images: list[bytes],
    console: Console,
    title: str,
) -> dict[str, Any]:
    session = Session(folder / "model.onnx", "cpu")
    bare: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    served: dict[int, list[tuple[float, float]]] = {c: [] for c in CONCURRENCIES}
    written: dict[int, list[tuple[float, float]]] = {c: [] for c in CONCURRENCIES}
    with service(models) as ours, handwritten(folder) as theirs:
        _both(ours, theirs, images, 64, 1)  # warm
        for _ in range(arguments.rounds):
            for batch in BATCHES:
                bare[batch].append(bare_rate(session, golden, batch, arguments.seconds / 3))
            for concurrency in CONCURRENCIES:
                first, second = _both(ours, theirs, images, concurrency, arguments.seconds)
                served[concurrency].append(first)
                written[concurrency].append(second)
    best = max(BATCHES, key=lambda batch: statistics.median(bare[batch]))
    ceiling = statistics.median(bare[best])
    alone_ms = 1000 / statistics.median(bare[1])

    table = Table(title=f"{title}: bare session {ceiling:.0f} images/s (batch {best}), {alone_ms:.2f} ms for one")
    for column in ("concurrency", "service/s", "vs bare", "by hand/s", "vs by hand", "median ms", "ms over bare"):
        table.add_column(column, justify="right")
    rows = []
    for concurrency in CONCURRENCIES:
        rate = statistics.median(x[0] for x in served[concurrency])
        # Ratios are computed per round, because a disturbance affects both sides of the same round.
        of_bare = statistics.median(x[0] / y for x, y in zip(served[concurrency], bare[best], strict=True))
        by_hand = statistics.median(x[0] for x in written[concurrency])
        ratio = statistics.median(x[0] / y[0] for x, y in zip(served[concurrency], written[concurrency], strict=True))
        median = statistics.median(x[1] for x in served[concurrency])
        over = statistics.median(x[1] - 1000 / y for x, y in zip(served[concurrency], bare[1], strict=True))
        rows.append(
            {
                "concurrency": concurrency,
                "service": rate,
                "of_bare": of_bare,
                "handwritten": by_hand,
                "ratio": ratio,
                "median_ms": median,
                "over_bare_ms": over if concurrency == 1 else None,
            }
        )
        table.add_row(
            str(concurrency), f"{rate:.0f}", f"{of_bare:.2f}", f"{by_hand:.0f}", f"{ratio:.2f}", f"{median:.2f}",
            f"{over:.2f}" if concurrency == 1 else "",
        )  # fmt: skip
    console.print(table)
    return {"bare": {str(b): statistics.median(v) for b, v in bare.items()}, "best_batch": best, "rows": rows}


def _both(
    ours: Running, theirs: Running, images: list[bytes], concurrency: int, seconds: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    first = measure(ours.port, "/v1/predict", images, concurrency, seconds)
    second = measure(theirs.port, "/v1/predict", images, concurrency, seconds)
    return (first.rate, first.median_ms), (second.rate, second.median_ms)


def _process_figures(models: Path) -> dict[str, float]:
    starts = []
    for _ in range(3):
        with service(models) as running:
            starts.append(running.seconds_to_ready)
            resident = running.resident_mb()
            before, began = running.cpu_seconds(), time.perf_counter()
            time.sleep(2)
            idle = (running.cpu_seconds() - before) / (time.perf_counter() - began)
    return {"seconds_to_ready": statistics.median(starts), "resident_mb": resident, "idle_cpu_percent": idle * 100}


def as_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An image as a client sends it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def _client() -> str:
    return "wrk, 1 thread" if shutil.which("wrk") else "asyncio client in the benchmark's process"


if __name__ == "__main__":
    main()
