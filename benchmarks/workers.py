"""Several processes on one port against one process: throughput, memory, and from how many cores on they pay.

python -m benchmarks.workers [--workers 2] [--rounds 3] [--seconds 3]
"""

import statistics
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.table import Table

from benchmarks.load import measure
from benchmarks.networks import networks
from benchmarks.results import Recorder, add_json_option
from benchmarks.servers import Running, service
from service.inference.device import available_cpus

_CONCURRENCY = 64
# How busy an event loop may be before it is the bound: beyond it requests wait for each other's HTTP.
_BUSY = 0.7


class Figures(NamedTuple):
    """What was measured of a service.

    Attributes:
        rate: requests per second.
        milliseconds: of processor time for each request, in all of its processes.
        memory: resident, in MB.
    """

    rate: float
    milliseconds: float
    memory: float


def main() -> None:
    """Prints a table for the committed CNN and for a network that costs next to nothing."""
    parser = ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="duration of each measurement")
    add_json_option(parser)
    options = parser.parse_args()
    console = Recorder()
    table = Table(title=f"{available_cpus()} cores, {_CONCURRENCY} requests at a time")
    for column in ("network", "processes", "requests/s", "against one", "ms of CPU a request", "MB"):
        table.add_column(column, justify="left" if column == "network" else "right")
    milliseconds = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders, images = networks(options.models, Path(scratch))
        for name, models in folders.items():
            with service(models) as one, service(models, {"workers": str(options.workers)}) as several:
                pairs = [
                    (_measure(one, images, options.seconds), _measure(several, images, options.seconds))
                    for _ in range(options.rounds)
                ]
            ratio = statistics.median(second.rate / first.rate for first, second in pairs)
            for processes, figures in (
                (1, [pair[0] for pair in pairs]),
                (options.workers, [pair[1] for pair in pairs]),
            ):
                middle = Figures(*map(statistics.median, zip(*figures, strict=True)))
                milliseconds[name, processes] = middle.milliseconds
                table.add_row(
                    name, str(processes), f"{middle.rate:.0f}", f"{ratio:.2f}" if processes > 1 else "",
                    f"{middle.milliseconds:.3f}", f"{middle.memory:.0f}",
                )  # fmt: skip
    console.print(table)
    network, loop = milliseconds["the committed CNN", 1], milliseconds["a trivial network", 1]
    console.print(
        f"One event loop spends {loop:.3f} ms on a request, so it can take {1000 * _BUSY / loop:.0f} a second at "
        f"{_BUSY:.0%}; a core runs {1000 / network:.0f} of this network's. So one process is enough for about "
        f"{_BUSY * network / loop:.0f} cores."
    )
    console.write(options.json, "benchmarks.workers")


def _measure(running: Running, images: list[bytes], seconds: float) -> Figures:
    processes = [running.process, *running.process.children()]
    before = sum(map(_cpu_seconds, processes))
    load = measure(running.port, "/v1/predict", images, _CONCURRENCY, seconds)
    spent = sum(map(_cpu_seconds, processes)) - before
    memory = sum(process.memory_info().rss for process in processes) / 1e6
    return Figures(load.rate, 1000 * spent / (load.rate * seconds), memory)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
