"""The simulation beside the real batcher and scheduler, with a model that sleeps instead of computing.

That shows whether the rules are the same, whatever else the machine does: nothing here takes processor time.

python -m benchmarks.asleep [--seconds 30]
"""

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.openloop import Outcome
from benchmarks.results import Recorder, add_json_option
from benchmarks.simulation import LOADS, Costs, compare, figures, simulate
from service.errors import Overloaded
from service.inference.batcher import Batcher
from service.inference.scheduler import Scheduler
from service.inference.scope import CallScope

_CORES, _MAX_BATCH, _MAX_WAIT = 2, 8, 1.0
# Seconds of a batch, long beside those by which threads wake late.
_ONE_CORE = {size: 0.04 + 0.02 * size for size in range(1, _MAX_BATCH + 1)}
_ALL_CORES = {size: 0.6 * seconds for size, seconds in _ONE_CORE.items()}


def main() -> None:
    """Prints what the batcher did and what was predicted."""
    parser = ArgumentParser(prog="python -m benchmarks.asleep", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of each load")
    add_json_option(parser)
    options = parser.parse_args()
    costs = Costs(
        _CORES,
        _MAX_BATCH,
        {size: [seconds] for size, seconds in _ALL_CORES.items()},
        {size: [seconds] for size, seconds in _ONE_CORE.items()},
        loop=0.0,
        fixed=0.0,
        asleep=True,
    )
    capacity = _CORES * _MAX_BATCH / _ONE_CORE[_MAX_BATCH]
    table = Table(title="a model that sleeps: measured / predicted")
    for column in ("arrivals", "a second", "median ms", "mean ms", "p95 ms", "refused", "furthest apart"):
        table.add_column(column, justify="left" if column == "arrivals" else "right")
    random = np.random.default_rng(0)
    for name, make, load in LOADS:
        times = make(load * capacity, options.seconds, random)
        real = asyncio.run(_run(times))
        model = simulate(costs, times, random, _MAX_WAIT)
        table.add_row(name, f"{len(times) / options.seconds:.0f}", *compare(figures(real), figures(model)))
    console = Recorder()
    console.print(table)
    console.write(options.json, "benchmarks.asleep")


async def _run(times: Sequence[float]) -> Outcome:
    scheduler = Scheduler(_CORES)
    batcher = Batcher(
        _sleep(_ALL_CORES),
        max_batch=_MAX_BATCH,
        max_queue=100_000,
        max_wait=_MAX_WAIT,
        scheduler=scheduler,
        run_on_one_core=_sleep(_ONE_CORE),
        seconds_per_item=_ONE_CORE[_MAX_BATCH] / _MAX_BATCH / _CORES,
    )
    answered: list[float] = []
    refused = 0

    async def call(due: float) -> None:
        nonlocal refused
        try:
            async with CallScope(owner=object(), timeout=60) as scope:
                await batcher.submit([None], batcher.admission.admit(1, scope)).future
        except Overloaded:
            refused += 1
        else:
            answered.append(time.perf_counter() - due)

    start = time.perf_counter() + 0.05
    async with asyncio.TaskGroup() as tasks:
        for moment in times:
            if (wait := start + moment - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(call(start + moment))
    await batcher.close()
    await scheduler.close()
    return Outcome(np.array(answered), len(times), refused)


def _sleep(seconds: dict[int, float]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    def run(items: Sequence[Any]) -> Sequence[Any]:
        time.sleep(seconds[len(items)])
        return [()] * len(items)

    return run


if __name__ == "__main__":
    main()
