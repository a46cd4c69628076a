"""The classifier over HTTP, its reference and its int8 variant, compared with ONNX Runtime alone and an app by hand.

Rounds are interleaved, and the bare session is measured just before and just after each load, so that noise on the
machine affects both sides of a ratio alike; medians and ratios are of one run.
"""

import io
import platform
import shutil
import statistics
import tempfile
import time
from argparse import Namespace
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import options
from benchmarks.bare import bare_load, bare_rate
from benchmarks.load import Load, measure
from benchmarks.results import Recorder
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
    console = Recorder()
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
    console.write(arguments.json, "benchmarks.serving", figures)


@dataclass(frozen=True, slots=True)
class _Beside:
    """What a service reached, and its bare session just before and just after, between which the machine's speed
    hardly changes.
    """

    load: Load
    before: Load
    after: Load

    @property
    def of_bare(self) -> float:
        """Images per second of the service, relative to the session's."""
        return 2 * self.load.rate / (self.before.rate + self.after.rate)

    @property
    def over_bare_ms(self) -> float:
        """By how much the service takes longer than the session."""
        return self.load.median_ms - (self.before.median_ms + self.after.median_ms) / 2


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A graph that is served, its bare session, and what both reached in each round.

    Attributes:
        running: the service with it.
        session: alone.
        best_batch: with which the bare session is the fastest.
        rounds: by the number of clients.
    """

    running: Running
    session: Session
    best_batch: int
    rounds: dict[int, list[_Beside]] = field(default_factory=lambda: {count: [] for count in CONCURRENCIES})

    def measure(self, golden: npt.NDArray[np.uint8], images: list[bytes], count: int, seconds: float) -> None:
        """Adds a round with `count` clients; a lone one is compared with the session's batch of one."""
        batch = 1 if count == 1 else self.best_batch
        before = bare_load(self.session, golden, batch, seconds / 2)
        load = measure(self.running.port, _ROUTE, images, count, seconds)
        self.rounds[count].append(_Beside(load, before, bare_load(self.session, golden, batch, seconds / 2)))

    def rates(self, concurrency: int) -> list[float]:
        """Images per second of the service in each round."""
        return [each.load.rate for each in self.rounds[concurrency]]

    def bare(self, concurrency: int) -> Load:
        """The medians of what the session reached in the rounds with so many clients."""
        loads = [load for each in self.rounds[concurrency] for load in (each.before, each.after)]
        return Load(*(statistics.median(values) for values in zip(*map(astuple, loads), strict=True)))

    def figures(self, concurrency: int, beside: list[float]) -> dict[str, Any]:
        """Medians, and what each round had.

        Args:
            concurrency: of the clients.
            beside: images per second, in the same rounds, of what it is compared with.
        """
        rounds = self.rounds[concurrency]
        of_bare = [each.of_bare for each in rounds]
        over = [each.over_bare_ms for each in rounds]
        return {
            "rate": statistics.median(self.rates(concurrency)),
            "of_bare": statistics.median(of_bare) if concurrency > 1 else None,
            "of_bare_in_rounds": of_bare,
            "ratio": _ratio(self.rates(concurrency), beside),
            "median_ms": statistics.median(each.load.median_ms for each in rounds),
            "over_bare_ms": statistics.median(over) if concurrency == 1 else None,
            "over_bare_ms_in_rounds": over,
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
    """The service with the reference and with the int8 variant, each beside the hand-written app with its graph."""
    manifest = read_manifest(folder)
    graphs = {"reference": MODEL, **{card.name: card.file for card in manifest.variants if card.name == INT8}}
    written: dict[str, dict[int, list[float]]] = {name: {count: [] for count in CONCURRENCIES} for name in graphs}
    with ExitStack() as stack:
        theirs = {name: stack.enter_context(handwritten(folder, file)) for name, file in graphs.items()}
        candidates = {}
        for name, file in graphs.items():
            running = stack.enter_context(service(models, {"variant": name}))
            session = Session(folder / file, "cpu")
            best = max(BATCHES, key=lambda batch: bare_rate(session, golden, batch, arguments.seconds / 2))
            candidates[name] = _Candidate(running, session, best)
        for running in (*theirs.values(), *(each.running for each in candidates.values())):
            measure(running.port, _ROUTE, images, 64, 1)  # warm
        for _ in range(arguments.rounds):
            for count in CONCURRENCIES:
                for name, each in candidates.items():
                    each.measure(golden, images, count, arguments.seconds)
                    load = measure(theirs[name].port, _ROUTE, images, count, arguments.seconds)
                    written[name][count].append(load.rate)
    return {
        name: _print(console, f"{title}, {name}", each, "by hand", written[name]) for name, each in candidates.items()
    }


def _print(
    console: Console, title: str, candidate: _Candidate, other: str, beside: dict[int, list[float]]
) -> dict[str, Any]:
    """Prints the figures of a candidate and returns them."""
    one, many = candidate.bare(1), candidate.bare(CONCURRENCIES[-1])
    table = Table(
        title=f"{title}: bare session {many.rate:.0f} images/s (batch {candidate.best_batch}), "
        f"{one.median_ms:.2f} ms for one"
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
        of_bare, over = (
            "" if row[name] is None else f"{row[name]:.2f} ({min(row[each]):.2f}–{max(row[each]):.2f})"
            for name, each in (("of_bare", "of_bare_in_rounds"), ("over_bare_ms", "over_bare_ms_in_rounds"))
        )
        table.add_row(
            str(count), f"{row['rate']:.0f}", of_bare, f"{row['beside']:.0f}", f"{row['ratio']:.2f}",
            f"{row['median_ms']:.2f}", over,
        )  # fmt: skip
    console.print(table)
    return {
        "bare": {"rate": many.rate, "alone_ms": one.median_ms},
        "best_batch": candidate.best_batch,
        "beside": other,
        "rows": rows,
    }


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def _process_figures(models: Path) -> dict[str, float]:
    starts = []
    for _ in range(2):
        with service(models) as running:
            starts.append(running.seconds_to_ready)
    with service(models) as running:
        starts.append(running.seconds_to_ready)
        resident = running.resident_mb()
        time.sleep(5)  # the first warm-up is over
        before, began = running.cpu_seconds(), time.perf_counter()
        time.sleep(20)
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
