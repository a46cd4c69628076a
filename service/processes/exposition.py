"""The metrics of several processes as one: counts added up, and each process's memory and processor time by worker."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from service.processes.board import Board, State


def registry_of(board: Board, folder: Path) -> CollectorRegistry:
    """What any of the workers exposes.

    Args:
        board: of the workers.
        folder: holds the files in which they count.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(_Workers(board))
    return registry


class _Workers(Collector):
    """The processes themselves, each with the label `worker`, from 1."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterable[Metric]:
        """Called for each exposition."""
        board = self._board
        ready = Metric("quartet_workers_ready", "Processes that answer", "gauge")
        ready.add_sample(ready.name, {}, sum(board.state(index) == State.READY for index in range(board.workers)))
        starts = Metric("quartet_worker_starts", "How often a process was started", "counter")
        families = {family.name: family for family in (ready, starts)}
        for index in range(board.workers):
            label = {"worker": str(index + 1)}
            starts.add_sample(f"{starts.name}_total", label, board.starts(index))
            if not (pid := board.pid(index)):
                continue
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, {**label, **sample.labels}, sample.value)
        return families.values()
