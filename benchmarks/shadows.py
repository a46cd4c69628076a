"""What a shadow costs the calls that it copies: their latency with and without one, on a busy device.

python -m benchmarks.shadows [--model classifier] [--clients 8] [--seconds 5] [--rounds 5]
"""

import asyncio
import shutil
import statistics
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.options import newest
from service.inference.call import BACKGROUND
from service.inference.golden import read_golden
from service.inference.observers import Observers
from service.inference.scope import CallScope
from service.lifecycle.shadow import Shadows
from service.models import repository_of
from service.observe.metrics import Metrics
from service.processes.board import Board
from service.settings import Settings
from service.tasks.registry import BUILT_IN

_SHADOW = '[shadow]\nversion = "2"\n'


class Round(NamedTuple):
    """Calls per second, and their latency in milliseconds."""

    rate: float
    median: float
    p99: float


def main() -> None:
    """Prints the latency of calls without a shadow and with one, in alternation."""
    parser = ArgumentParser(prog="python -m benchmarks.shadows", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--model", default="classifier")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = newest(options.models, options.model)
        for version in ("1", "2"):
            shutil.copytree(source, Path(scratch) / options.model / version)
        (Path(scratch) / options.model / "serving.toml").write_text('load = ["1", "2"]\ndefault = "1"\n' + _SHADOW)
        asyncio.run(_measure(Path(scratch), options.model, options.clients, options.seconds, options.rounds))


async def _measure(models: Path, model: str, clients: int, seconds: float, rounds: int) -> None:
    metrics = Metrics()
    shadows = Shadows(
        BUILT_IN.tasks,
        Board(),
        lambda: CallScope(repository, owner=BACKGROUND, timeout=30),
        lambda event: observers.publish(event),
        lambda *_: None,
    )
    observers = Observers([metrics, shadows])
    repository = repository_of(Settings(models=models, device="cpu"), BUILT_IN, observers=observers)
    await repository.load_all()
    version = repository.models[model]
    inputs, _ = read_golden(version.folder, version.manifest)
    items = list(zip(*inputs.values(), strict=True)) if len(inputs) > 1 else list(*inputs.values())

    async def client(number: int, end: float, latencies: list[float]) -> None:
        while (began := time.perf_counter()) < end:
            async with CallScope(repository, owner=number, observers=observers) as call:
                await call.infer(call.lease(model), [items[len(latencies) % len(items)]])
            latencies.append(time.perf_counter() - began)

    async def one_round() -> Round:
        latencies: list[float] = []
        began = time.perf_counter()
        await asyncio.gather(*(client(number, began + seconds, latencies) for number in range(clients)))
        median, p99 = np.percentile(latencies, (50, 99)) * 1000
        return Round(len(latencies) / (time.perf_counter() - began), float(median), float(p99))

    results: dict[str, list[Round]] = {"without": [], "with": []}
    await one_round()
    for _ in range(rounds):
        for name, found in results.items():
            shadows.update(repository.served if name == "with" else {})
            found.append(await one_round())
            if name == "with":
                state = await shadows.state(model)
                assert state is not None
                print(f"compared {state['compared']}, dropped {state['dropped']}")
    for name, found in results.items():
        columns = [statistics.median(column) for column in zip(*found, strict=True)]
        print(f"{name} a shadow: {columns[0]:.0f} calls/s, median {columns[1]:.2f} ms, p99 {columns[2]:.2f} ms")
    await shadows.close()
    await repository.close()


if __name__ == "__main__":
    main()
