"""The classifier over HTTP, its reference and its int8 variant, compared with ONNX Runtime alone and an app by hand.

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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import options
from benchmarks.bare import bare_rate
from benchmarks.load import Load, measure
from benchmarks.servers import Running, handwritten, service
from benchmarks.tiny import make_tiny
from service.inference.device import available_cpus
from service.inference.manifest import GOLDEN, MODEL
from service.inference.session import Session
from service.tasks.registry import read_manifest

INT8 = "int8"
CONCURRENCIES = (1, 8, 32, 64)
BATCHES = (1, 8, 16, 32, 64)
_ROUTE = "/v1/predict"


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


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A graph that is served, its bare session, and what both reached in each round.

    Attributes:
        running: the service with it.
        session: alone.
        bare: images per second of the session, by batch size.
        loads: what the clients of the service measured, by their number.
    """

    running: Running
    session: Session
    bare: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})
    loads: dict[int, list[Load]] = field(default_factory=lambda: {count: [] for count in CONCURRENCIES})

    @property
    def best_batch(self) -> int:
        """With which the bare session is the fastest."""
        return max(BATCHES, key=lambda batch: statistics.median(self.bare[batch]))

    def rates(self, concurrency: int) -> list[float]:
        """Images per second of the service in each round."""
        return [load.rate for load in self.loads[concurrency]]

    def figures(self, concurrency: int, beside: list[float]) -> dict[str, float | None]:
        """Medians; ratios are computed per round, because a disturbance affects both sides of the same round.

        Args:
            concurrency: of the clients.
            beside: images per second, in the same rounds, of what it is compared with.
        """
        loads = self.loads[concurrency]
        over = [load.median_ms - 1000 / rate for load, rate in zip(loads, self.bare[1], strict=True)]
        return {
            "rate": statistics.median(self.rates(concurrency)),
            "of_bare": _ratio(self.rates(concurrency), self.bare[self.best_batch]),
            "ratio": _ratio(self.rates(concurrency), beside),
            "median_ms": statistics.median(load.median_ms for load in loads),
            "over_bare_ms": statistics.median(over) if concurrency == 1 else None,
        }


def _compare(
    arguments: Namespace,
    models: Path,
    folder: Path,
    golden: npt.NDArray[np.uint8],
    images: list[bytes],
    console: Console,
    title: str,
) -> dict[str, Any]:
    """The service with the reference beside the hand-written app, and with the int8 variant beside the reference."""
    manifest = read_manifest(folder)
    graphs = {"reference": MODEL, **{card.name: card.file for card in manifest.variants if card.name == INT8}}
    written: dict[int, list[float]] = {concurrency: [] for concurrency in CONCURRENCIES}
    with ExitStack() as stack:
        theirs = stack.enter_context(handwritten(folder))
        candidates = {}
        for name, file in graphs.items():
            running = stack.enter_context(service(models, {"variant": name}))
            candidates[name] = _Candidate(running, Session(folder / file, "cpu"))
        for port in (theirs.port, *(each.running.port for each in candidates.values())):
            measure(port, _ROUTE, images, 64, 1)  # warm
        for _ in range(arguments.rounds):
            for each in candidates.values():
                for batch in BATCHES:
                    each.bare[batch].append(bare_rate(each.session, golden, batch, arguments.seconds / 3))
            for count in CONCURRENCIES:
                for each in candidates.values():
                    each.loads[count].append(measure(each.running.port, _ROUTE, images, count, arguments.seconds))
                written[count].append(measure(theirs.port, _ROUTE, images, count, arguments.seconds).rate)
    found = {}
    for name, each in candidates.items():
        other = "by hand" if name == "reference" else "reference"
        found[name] = _print(console, f"{title}, {name}", each, other, {
            count: written[count] if name == "reference" else candidates["reference"].rates(count)
            for count in CONCURRENCIES
        })  # fmt: skip
    return found


def _print(
    console: Console, title: str, candidate: _Candidate, other: str, beside: dict[int, list[float]]
) -> dict[str, Any]:
    """Prints the figures of a candidate and returns them."""
    bare = {batch: statistics.median(rates) for batch, rates in candidate.bare.items()}
    best = candidate.best_batch
    table = Table(
        title=f"{title}: bare session {bare[best]:.0f} images/s (batch {best}), {1000 / bare[1]:.2f} ms for one"
    )
    for column in ("concurrency", "service/s", "vs bare", f"{other}/s", f"vs {other}", "median ms", "ms over bare"):
        table.add_column(column, justify="right")
    rows = []
    for count in CONCURRENCIES:
        row = {
            "concurrency": count,
            **candidate.figures(count, beside[count]),
            "beside": statistics.median(beside[count]),
        }
        rows.append(row)
        over = row["over_bare_ms"]
        table.add_row(
            str(count), f"{row['rate']:.0f}", f"{row['of_bare']:.2f}", f"{row['beside']:.0f}", f"{row['ratio']:.2f}",
            f"{row['median_ms']:.2f}", "" if over is None else f"{over:.2f}",
        )  # fmt: skip
    console.print(table)
    return {
        "bare": {str(batch): rate for batch, rate in bare.items()},
        "best_batch": best,
        "beside": other,
        "rows": rows,
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


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


def golden_jpegs(folder: Path) -> list[bytes]:
    """The images of a version's golden file, as JPEG."""
    with np.load(folder / GOLDEN) as golden:
        return [as_jpeg(pixels) for pixels in golden["images"]]


def as_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """An image as a client sends it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def _client() -> str:
    return "wrk, 1 thread" if shutil.which("wrk") else "asyncio client in the benchmark's process"


if __name__ == "__main__":
    main()
