"""This process as one of several workers: its share of the machine, its heartbeat, and the metrics of all workers."""

import asyncio
import json
import os
import shutil
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from prometheus_client import CollectorRegistry, Metric, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import MultiProcessValue

from service.processes.board import Board

# Not a setting: only the supervisor sets it. Not an option: the worker may be another program with its own options.
_VARIABLE = "_QUARTET_WORKER"

# A worker sends a heartbeat once it answers, and from then on each second.
HEARTBEAT = b"."
# It asks that all workers load the models again.
NOTIFY = b"!"
# A line from the supervisor; all others are a `Status`.
RELOAD = b"reload\n"


def worker_environment(
    index: int, folder: str, channel: int, settings: Mapping[str, Any], access: Mapping[str, Any], unix: int | None
) -> Mapping[str, str]:
    """The environment variables that make a process a worker; the arguments are those of `Worker`."""
    assignment = {"index": index, "folder": folder, "channel": channel, "settings": settings, "access": access}
    assignment["unix"] = unix
    return {_VARIABLE: json.dumps(assignment), "PROMETHEUS_MULTIPROC_DIR": folder}


class Status(NamedTuple):
    """What the supervisor tells all workers whenever it changes, as a line of JSON.

    Attributes:
        serving: whether all workers have started and none has been told to end.
        ready: number of workers that answer.
        processes: of each worker its process ID, 0 while it is not running, and how often it was started.
    """

    serving: bool
    ready: int
    processes: Sequence[tuple[int, int]]


class Worker:
    """This process as one of several.

    Args:
        index: of the worker, from 0.
        folder: holds the metrics of all workers.
        channel: file descriptor of a socket to the supervisor.
        settings: the worker's settings, where they differ from the service's.
        access: arguments of `ring_of` that are the same for all workers.
        unix: file descriptor of the Unix socket that all workers listen on; None if they listen on a port.
    """

    def __init__(
        self,
        index: int,
        folder: str,
        channel: int,
        settings: Mapping[str, Any],
        access: Mapping[str, Any],
        unix: int | None = None,
    ) -> None:
        self.settings = settings
        self.access = access
        self.unix = unix
        self.status = Status(False, 0, ())
        self._folder = folder
        self._index = index
        self._channel = socket.socket(fileno=channel)
        self._writer: asyncio.StreamWriter | None = None
        # One file of metrics per worker, not per process: counts survive a restart, and files do not accumulate.
        values.ValueClass = MultiProcessValue(lambda: index)  # type: ignore[no-untyped-call]

    @classmethod
    def join(cls) -> Self | None:
        """This process as a worker; None if no supervisor started it."""
        encoded = os.environ.pop(_VARIABLE, None)
        return None if encoded is None else cls(**json.loads(encoded))

    def metrics(self, state: Collector) -> CollectorRegistry:
        """The metrics of all workers as one, with those of the service's state."""
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._folder)  # type: ignore[no-untyped-call]
        registry.register(_Processes(self))
        registry.register(state)
        return registry

    def own_metrics(self, state: Collector) -> CollectorRegistry:
        """The metrics of this worker alone, with the counts of those before it that died."""
        registry = CollectorRegistry()
        registry.register(_Files(Path(self._folder), self._index))
        registry.register(state)
        ProcessCollector(registry=registry)
        return registry

    def board(self) -> Board:
        """Exchanges figures with the other workers."""
        return Board(Path(self._folder), self._index)

    def started(self) -> None:
        """Reports that the worker answers; called on the event loop."""
        self._listener = asyncio.create_task(self._listen())

    def heartbeat(self) -> None:
        """Reports that the event loop is alive; called once a second."""
        self._send(HEARTBEAT)

    def notify(self) -> None:
        """Lets the other workers look at the policies again."""
        self._send(NOTIFY)

    def _send(self, message: bytes) -> None:
        if self._writer and not self._writer.is_closing():
            self._writer.write(message)

    async def _listen(self) -> None:
        """Follows the supervisor, and ends the worker when the supervisor is gone."""
        reader, self._writer = await asyncio.open_unix_connection(sock=self._channel)
        # A supervisor that is killed before it has read a heartbeat resets the connection.
        with closing(self._writer), suppress(ConnectionError):
            self.heartbeat()
            async for line in reader:
                if line == RELOAD:
                    os.kill(os.getpid(), signal.SIGUSR1)
                else:
                    self.status = Status(*json.loads(line))
        shutil.rmtree(self._folder, ignore_errors=True)  # nobody else is left to do so
        os.kill(os.getpid(), signal.SIGTERM)


class _Files(Collector):
    """What a worker counts, as its files have it: a new process begins with the counts of the one before."""

    def __init__(self, folder: Path, index: int) -> None:
        self._folder = folder
        self._index = index

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in self._folder.glob(f"*_{self._index}.db")]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def describe_processes() -> tuple[GaugeMetricFamily, CounterMetricFamily]:
    """The metrics of the processes, without values: how many answer, and how often each was started."""
    return (
        GaugeMetricFamily("quartet_workers_ready", "Worker processes that answer"),
        CounterMetricFamily("quartet_worker_starts", "How often a worker process was started", labels=["worker"]),
    )


class _Processes(Collector):
    """Metrics of the worker processes themselves, each with the label `worker`, from 1."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        status = self._worker.status
        ready, starts = describe_processes()
        ready.add_metric([], status.ready)
        families: dict[str, Metric] = {family.name: family for family in (ready, starts)}
        for number, (pid, count) in enumerate(status.processes, 1):
            label = {"worker": str(number)}
            starts.add_metric([str(number)], count)
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect() if pid else ():
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, {**label, **sample.labels}, sample.value)
        return families.values()
