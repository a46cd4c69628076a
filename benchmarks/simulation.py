"""A discrete-event simulation of the batcher, beside the real server under the same arrivals.

What it knows of a model is how long batches of each size take, alone on all cores and side by side on one core each,
and what a request costs beside them. From these it predicts the latencies and refusals of arrivals that it is given.

python -m benchmarks.simulation [--model classifier] [--rounds 3] [--seconds 15]
"""

import asyncio
import json
import math
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import numpy.typing as npt
from rich.table import Table

from benchmarks.openloop import Outcome, bursts, poisson, send
from benchmarks.options import newest
from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import Running, service
from benchmarks.serving import golden_jpegs
from benchmarks.tiny import make_tiny
from service.inference.device import available_cpus
from service.inference.scheduler import LONG_SECONDS
from service.inference.session import Session

# Seconds of work that may wait; short, so that a short measurement sees what a long overload does.
_MAX_WAIT = 0.5
_TIMINGS = 15
# Enough to keep the processes busy, and not so many that they wait for each other.
_REQUESTS_A_SECOND = 800


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured of a model on a machine.

    Attributes:
        cores: that run batches.
        max_batch: the most items in one.
        all_cores: by batch size, seconds that batches took on all cores, some measurements each.
        one_core: likewise on one core, while the others did the same.
        loop: seconds of processor time of a request beside its inference, its client's included.
        fixed: seconds that a lone request takes beside its inference.
        asleep: whether batches take as long however many run, for a model that does not compute.
    """

    cores: int
    max_batch: int
    all_cores: dict[int, list[float]]
    one_core: dict[int, list[float]]
    loop: float
    fixed: float
    asleep: bool = False


@dataclass(order=True, slots=True)
class _Batch:
    """A batch that runs: seconds of work that are left when it is not slowed down, and its items' arrivals."""

    left: float
    spread: bool = field(compare=False)
    arrivals: list[float] = field(compare=False)
    started: float = field(compare=False)


def simulate(costs: Costs, times: Sequence[float], random: np.random.Generator, max_wait: float = _MAX_WAIT) -> Outcome:
    """What becomes of requests with one item each that arrive at some times.

    The rules are those of `service.inference.scheduler` and of `service.inference.admission`.
    """
    waiting: deque[float] = deque()
    running: list[_Batch] = []
    latencies: list[float] = []
    refused = 0
    estimate = costs.all_cores[1][0]  # seconds that an item costs, as the server would estimate it
    rate = len(times) / times[-1]
    # What requests cost beside inference is taken from the cores that run batches.
    taken = min(0.9, rate * costs.loop)
    now = 0.0
    arrivals = deque(times)

    def pace() -> float:
        if costs.asleep:
            return 1.0
        wanted = sum(costs.cores if batch.spread else 1 for batch in running)
        # A batch on all cores waits for each of them after every layer, so what is taken from one holds up all.
        lost = taken * (costs.cores if any(batch.spread for batch in running) else 1)
        return min(1.0, (costs.cores - lost) / wanted) if wanted else 1.0

    def start() -> None:
        while waiting and len(running) < costs.cores:
            crowded = len(waiting) >= 2 * costs.cores and len(waiting) * estimate >= LONG_SECONDS
            limit = min(costs.max_batch, math.ceil(len(waiting) / costs.cores)) if crowded else costs.max_batch
            if costs.cores == 1:
                spread = False
            elif any(batch.spread for batch in running):
                if not crowded:
                    return
                spread = False
            else:
                spread = not crowded
            size = min(limit, len(waiting))
            timings = (costs.all_cores if spread else costs.one_core)[size]
            items = [waiting.popleft() for _ in range(size)]
            running.append(_Batch(timings[random.integers(len(timings))], spread, items, now))

    while arrivals or running:
        due = arrivals[0] if arrivals else math.inf
        speed = pace()
        first = min(running, default=None)
        ends = now + first.left / speed if first else math.inf
        step = min(due, ends) - now
        for batch in running:
            batch.left -= step * speed
        now += step
        if first is not None and ends <= due:
            running.remove(first)
            latencies += [now - arrival + costs.fixed for arrival in first.arrivals]
            seconds = (now - first.started) / len(first.arrivals) / (1 if first.spread else costs.cores)
            estimate += (seconds - estimate) * 0.1
        else:
            arrivals.popleft()
            wait = (len(waiting) + sum(len(batch.arrivals) for batch in running)) * estimate
            if wait > 0.7 * max_wait:  # the rest is for clients that retry in time
                refused += 1
            else:
                waiting.append(now)
        start()
    return Outcome(np.array(latencies), len(times), refused)


class Batches:
    """Measures how long a model's batches take, of each size.

    Args:
        folder: of the version.
        max_batch: the most items in a batch.
    """

    def __init__(self, folder: Path, max_batch: int) -> None:
        with np.load(folder / "golden.npz") as golden:
            pixels: npt.NDArray[np.uint8] = golden["images"]
        self.cores = available_cpus()
        self._spread = Session(folder / "model.onnx", "cpu")
        self._single = [Session(folder / "model.onnx", "cpu", 1) for _ in range(self.cores)]
        name = self._spread.inputs[0]
        self._feeds = {size: {name: np.resize(pixels, (size, *pixels.shape[1:]))} for size in range(1, max_batch + 1)}

    def measure(self) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
        """Seconds by batch size: on all cores, and on one core while the others do the same."""
        return (
            {size: _timings([self._spread], feed) for size, feed in self._feeds.items()},
            {size: _timings(self._single, feed) for size, feed in self._feeds.items()},
        )


def measure_costs(folder: Path, batches: Batches, running: Running, images: Sequence[bytes]) -> Costs:
    """Measures a model's batches, and what a request costs beside them, on an otherwise idle machine."""
    all_cores, one_core = batches.measure()
    alone = float(np.median(all_cores[1]))
    # Each by itself, and yet so close together that the cores do not fall asleep, as under the loads.
    lone = asyncio.run(send(running.port, _path(folder), images, [3 * alone * number for number in range(100)]))
    fixed = lone.median_ms / 1000 - alone
    return Costs(batches.cores, max(one_core), all_cores, one_core, _beside(folder, images), max(0.0, fixed))


def _beside(folder: Path, images: Sequence[bytes]) -> float:
    """Seconds of processor time that a request costs, client and server, where the network costs next to nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        make_tiny(folder, Path(scratch))
        with service(Path(scratch), {"log_level": "warning"}) as tiny:
            times = [number / _REQUESTS_A_SECOND for number in range(2 * _REQUESTS_A_SECOND)]
            asyncio.run(send(tiny.port, "/v1/predict", images, times[:100]))  # warm
            before = tiny.cpu_seconds() + time.process_time()
            asyncio.run(send(tiny.port, "/v1/predict", images, times))
            return (tiny.cpu_seconds() + time.process_time() - before) / len(times)


def _timings(sessions: Sequence[Session], feed: dict[str, npt.NDArray[np.uint8]]) -> list[float]:
    """Seconds that a batch takes, while every session runs one at the same time."""

    def run(session: Session, found: list[float]) -> None:
        session.run(feed)
        for _ in range(_TIMINGS):
            began = time.perf_counter()
            session.run(feed)
            found.append(time.perf_counter() - began)

    found: list[float] = []
    threads = [threading.Thread(target=run, args=(session, found)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _path(folder: Path) -> str:
    return f"/v1/predict?model={folder.parent.name}"


def main() -> None:
    """Prints what was measured and what was predicted, and how far apart they are."""
    parser = ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--model", default="classifier", help="an image classifier")
    parser.add_argument("--seconds", type=float, default=15, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="of each load; medians are compared")
    parser.add_argument("--save", type=Path, help="write what was measured of the model, for benchmarks.capacity")
    add_json_option(parser)
    options = parser.parse_args()
    folder = newest(options.models, options.model)
    images = golden_jpegs(folder)
    console = Recorder()
    random = np.random.default_rng(0)
    settings = {"max_wait": f"{_MAX_WAIT:g}", "variant": "reference", "log_level": "warning"}
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / options.model).symlink_to(folder.parent.resolve())
        with service(Path(scratch), settings) as running:
            url = f"http://127.0.0.1:{running.port}/v1/models/{options.model}"
            batches = Batches(folder, httpx.get(url).json()["max_batch"])
            costs = measure_costs(folder, batches, running, images)
            if options.save:
                options.save.write_text(json.dumps(asdict(costs), indent=1))
            largest = float(np.median(costs.one_core[costs.max_batch]))
            alone = float(np.median(costs.all_cores[1]))
            capacity = costs.cores / (largest / costs.max_batch + costs.loop)
            console.print(
                f"{costs.cores} cores; batches of {costs.max_batch} take {1000 * largest:.0f} ms on one core, one "
                f"item {1000 * alone:.1f} ms on all; a request costs {1000 * costs.loop:.2f} ms "
                f"of CPU beside. Capacity: {capacity:.0f} a second"
            )
            table = Table(title=f"{options.model}: measured / predicted")
            for column in ("arrivals", "a second", "median ms", "mean ms", "p95 ms", "refused", "furthest apart"):
                table.add_column(column, justify="left" if column == "arrivals" else "right")
            for name, make, load in LOADS:
                pairs = []
                for _ in range(options.rounds):
                    times = make(load * capacity, options.seconds, random)
                    # How fast a shared machine is changes within minutes: what batches took before and after counts.
                    before = batches.measure()
                    real = asyncio.run(send(running.port, _path(folder), images, times))
                    after = batches.measure()
                    all_cores, one_core = (
                        {size: early[size] + late[size] for size in early}
                        for early, late in zip(before, after, strict=True)
                    )
                    fitted = replace(costs, all_cores=all_cores, one_core=one_core)
                    pairs.append((figures(real), figures(simulate(fitted, times, random))))
                measured, predicted = (Figures(*np.median(each, axis=0)) for each in zip(*pairs, strict=True))
                table.add_row(name, f"{load * capacity:.0f}", *compare(measured, predicted))
    console.print(table)
    console.write(options.json, "benchmarks.simulation")


LOADS: tuple[tuple[str, Callable[[float, float, np.random.Generator], list[float]], float], ...] = (
    ("Poisson, 60 % of the capacity", poisson, 0.6),
    ("Poisson, 80 %", poisson, 0.8),
    # At more, a burst is beyond the capacity, and how long its queue becomes hangs on a few percent of it.
    ("bursts of 80 %, 45 % on average", bursts, 0.45),
    ("Poisson, 140 %", poisson, 1.4),
)


class Figures(NamedTuple):
    """Of requests: milliseconds of those that were answered, and the share of those that were refused."""

    median_ms: float
    mean_ms: float
    p95_ms: float
    refused: float


def figures(outcome: Outcome) -> Figures:
    """What is compared of an outcome."""
    return Figures(outcome.median_ms, outcome.mean_ms, outcome.p95_ms, outcome.refused_share)


def compare(measured: Figures, predicted: Figures) -> list[str]:
    """Cells of a table: latencies and refusals, and by how much the prediction is off where it is worst."""
    cells = [f"{real:.1f} / {model:.1f}" for real, model in zip(measured[:3], predicted[:3], strict=True)]
    cells.append(f"{measured.refused:.1%} / {predicted.refused:.1%}")
    apart = max(abs(model / real - 1) for real, model in zip(measured[:3], predicted[:3], strict=True))
    # Shares of those who were let in, for a share near 0 has no ratio worth naming.
    apart = max(apart, abs((1 - predicted.refused) / (1 - measured.refused) - 1))
    return [*cells, f"{apart:.0%}"]


if __name__ == "__main__":
    main()
