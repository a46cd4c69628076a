"""A graph under load, in the batcher and on the scheduler that serve it: which settings answer most items in time?"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.batcher import Batcher
from service.inference.cards import ManifestBase
from service.inference.golden import read_golden
from service.inference.performance import INLINE_SECONDS, Performance, seconds_per_batch
from service.inference.scheduler import GPU_BATCHES, Scheduler
from service.inference.scope import CallScope
from service.inference.session import Session
from service.inference.shapes import Shapes
from service.inference.stacking import runner
from service.inference.variants import Graph

# A batch twice as large has to gain so much, or it costs latency for nothing.
_GAIN = 1.03


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a setting.

    Attributes:
        max_batch: the most items in a batch.
        threads: batches that ran at a time.
        inline: whether they ran on the event loop.
        clients: that each had an item in flight all the time.
        rate: items per second.
        median: seconds that an item took then, from being queued to being answered.
        p99: likewise, of which the slowest hundredth took more.
    """

    max_batch: int
    threads: int
    inline: bool
    clients: int
    rate: float
    median: float
    p99: float


class Bench:
    """Opens a graph as it is served, and puts it under load.

    Args:
        folder: of the version.
        graph: one of its graphs, whose files have been checked.
        device: `cpu`, `cuda` or `cuda:N`.
        threads: the most batches at a time on a CPU.
        max_batch: the most items in a batch.
        gpu_memory_mb: as `Session` takes it.

    Raises:
        InvalidModel: the graph is no good here.
        DeviceUnavailable: the device cannot serve.
    """

    def __init__(
        self, folder: Path, graph: Graph, device: str, threads: int, max_batch: int, gpu_memory_mb: float
    ) -> None:
        self._path = folder / graph.file
        self._manifest = graph.manifest
        self._threads = threads if device == "cpu" else GPU_BATCHES
        self._limit = self._opened_for = min(max_batch, graph.manifest.max_batch)
        self._open: Callable[[int], Session] = lambda most: Session(
            self._path, device, threads, Shapes.of(graph.manifest, most), gpu_memory_mb
        )
        self._session = self._open(self._limit)
        self._session.check(folder, graph.manifest)
        self._single = Session(self._path, "cpu", 1) if device == "cpu" and threads > 1 else None
        self._inputs = read_golden(folder, graph.manifest)[0]
        self._items = list(_items(self._inputs, graph.manifest))

    @property
    def sizes(self) -> list[int]:
        """The batch sizes that are worth trying: powers of two, and the largest."""
        return sorted(
            {*(2**power for power in range(self._limit.bit_length()) if 2**power <= self._limit), self._limit}
        )

    @property
    def thread_counts(self) -> list[int]:
        """How many batches at a time are worth trying, the most first."""
        return [self._threads] if self._single is None else sorted({self._threads, self._threads // 2, 1}, reverse=True)

    def performance(self, trial: Trial, seconds: float, *, inline: bool) -> Performance:
        """How fast the graph is with a trial's batches, by themselves."""
        busy = self._session_for(trial.max_batch) if self._single is None else self._single
        alone, batch = (seconds_per_batch(busy, self._inputs, size, seconds) for size in (1, trial.max_batch))
        return Performance(trial.max_batch, batch, alone, inline)

    def may_run_inline(self, trial: Trial) -> bool:
        """Whether the event loop can afford to run a trial's batches."""
        if self._session.device != "cpu":
            return False
        return seconds_per_batch(self._single or self._session, self._inputs, trial.max_batch, 0.01) < INLINE_SECONDS

    def run(
        self, max_batch: int, threads: int, seconds: float, *, clients: int | None = None, inline: bool = False
    ) -> Trial:
        """Puts the graph under load.

        Args:
            max_batch: the most items in a batch.
            threads: batches at a time.
            seconds: how long.
            clients: how many send an item at a time; by default each thread has a batch that runs and one that waits.
            inline: whether batches run on the event loop.
        """
        return asyncio.run(self._load(max_batch, threads, seconds, clients or 2 * max_batch * threads, inline))

    def _session_for(self, max_batch: int) -> Session:
        """On a GPU batches are padded to a few sizes, of which the largest is the most items in a batch."""
        if self._session.shapes is not None and max_batch != self._opened_for:
            self._session, self._opened_for = self._open(max_batch), max_batch
            self._session.prepare(self._manifest)
        return self._session

    async def _load(self, max_batch: int, threads: int, seconds: float, clients: int, inline: bool) -> Trial:
        scheduler = None if inline else Scheduler(threads, name="tune")
        single = runner(self._single, self._manifest) if self._single else None
        run = runner(self._session_for(max_batch), self._manifest)
        batcher = Batcher(
            single or run if inline else run,
            max_batch=max_batch,
            max_queue=1_000_000_000,
            scheduler=scheduler,
            run_on_one_core=single,
        )
        times: list[float] = []
        # The first items are not counted: memory is allocated, and the scheduler learns what an item costs.
        started = time.perf_counter() + seconds / 4

        async def client(number: int) -> None:
            # However slow the graph is, some item is counted.
            while (sent := time.perf_counter()) < started + seconds or not times:
                item = self._items[(number + len(times)) % len(self._items)]
                call = CallScope()
                await batcher.submit([item], batcher.admission.admit(1, call)).future
                call.close()
                if (answered := time.perf_counter()) >= started:
                    times.append(answered - sent)

        await asyncio.gather(*(client(number) for number in range(clients)))
        # Longer than asked for: what was under way is waited for, and counted.
        elapsed = time.perf_counter() - started
        await batcher.close()
        if scheduler:
            await scheduler.close()
        median, p99 = np.quantile(times, [0.5, 0.99])
        return Trial(max_batch, threads, inline, clients, len(times) / elapsed, float(median), float(p99))


def sweep(bench: Bench, seconds: float, longest: float) -> Iterator[Trial]:
    """Tries what is worth trying, and ends where more cannot help.

    Args:
        bench: of the graph.
        seconds: for each trial.
        longest: the 99th percentile that is accepted, in seconds.

    Yields:
        Trials; `choose` takes one of them.
    """
    tried = []
    threads = bench.thread_counts[0]
    for size in bench.sizes:
        trial = bench.run(size, threads, seconds)
        yield trial
        tried.append(trial)
        rates = [each.rate for each in tried]
        # Larger batches only take longer; two steps without a gain are no accident.
        if trial.p99 > longest or (len(rates) > 2 and max(rates[-2:]) < max(rates[:-2]) * _GAIN):
            break
    chosen = choose(tried, longest)
    for count in bench.thread_counts[1:]:
        yield bench.run(chosen.max_batch, count, seconds)
    if bench.may_run_inline(chosen):
        for inline in (False, True):
            yield bench.run(chosen.max_batch, threads, seconds, clients=1, inline=inline)


def choose(trials: Sequence[Trial], longest: float) -> Trial:
    """The smallest batch that answers about as many items as any, among the trials that answer in time.

    Args:
        trials: at least one; of those with fewer threads none is chosen, since models share the threads.
        longest: the 99th percentile that is accepted, in seconds; where no trial keeps to it, the shortest is chosen.
    """
    threads = max(trial.threads for trial in trials)
    eligible = [trial for trial in trials if trial.threads == threads and trial.clients > 1]
    in_time = [trial for trial in eligible if trial.p99 <= longest]
    if not in_time:
        return min(eligible, key=lambda trial: trial.p99)
    enough = max(trial.rate for trial in in_time) / _GAIN
    return min((trial for trial in in_time if trial.rate >= enough), key=lambda trial: (trial.max_batch, -trial.rate))


def answers_sooner_inline(trials: Sequence[Trial]) -> bool:
    """Whether a lone item is answered sooner if its batch runs on the event loop; that has to have been tried."""
    alone = {trial.inline: trial.median for trial in trials if trial.clients == 1}
    return len(alone) == 2 and alone[True] < alone[False]


def _items(inputs: Mapping[str, Any], manifest: ManifestBase) -> Iterator[Any]:
    """The rows of a golden file as items: an array, or a tuple of one per input; texts without their padding."""
    ragged = any(-1 in spec.shape[1:] for spec in manifest.inputs)
    for row in zip(*inputs.values(), strict=True):
        if ragged:
            yield np.trim_zeros(row[0], "b") if row[0].any() else row[0]
        else:
            yield row if len(row) > 1 else row[0]
