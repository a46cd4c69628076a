"""This process as one of several: its share of the machine, and what it tells the others."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from prometheus_client import CollectorRegistry, values
from prometheus_client.values import MultiProcessValue

from service.processes.board import Board, State
from service.processes.exposition import registry_of

# Where a worker finds what it is; no setting, for only the supervisor sets it.
_VARIABLE = "_QUARTET_WORKER"
# Where prometheus_client keeps what all processes have counted.
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_BOARD = "board"


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a supervisor tells a worker.

    Attributes:
        index: of the worker, from 0.
        workers: how many there are.
        folder: holds what they share.
        lifeline: a pipe that nobody writes to; it ends when the supervisor does.
        cores: that it may use; None where they are not told apart, as under a container's quota.
    """

    index: int
    workers: int
    folder: str
    lifeline: int
    cores: tuple[int, ...] | None

    def environment(self) -> Mapping[str, str]:
        """The variables that tell it."""
        return {_VARIABLE: json.dumps(asdict(self)), _METRICS_VARIABLE: self.folder}


class Worker:
    """This process as one of several.

    Attributes:
        assignment: as the supervisor tells.
        board: of all workers.
    """

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.board = Board(Path(assignment.folder) / _BOARD, assignment.workers)
        if assignment.cores:
            os.sched_setaffinity(0, assignment.cores)
        # One file of counts for each worker rather than each process: what is counted goes on where a worker that died
        # left off, and no files gather.
        values.ValueClass = MultiProcessValue(lambda: assignment.index)  # type: ignore[no-untyped-call]

    @classmethod
    def join(cls) -> Self | None:
        """What the supervisor that started this process says that it is; None where it was started by itself."""
        told = os.environ.pop(_VARIABLE, None)
        if told is None:
            return None
        assignment = json.loads(told)
        return cls(Assignment(**{**assignment, "cores": assignment["cores"] and tuple(assignment["cores"])}))

    def exposed(self) -> CollectorRegistry:
        """The metrics of all workers as one."""
        return registry_of(self.board, Path(self.assignment.folder))

    def all_wanted(self) -> bool:
        """Whether requests are wanted of all workers: they have started, and none has been told to end."""
        return self.board.wanted

    def started(self) -> None:
        """Says that the worker answers, and ends it when the supervisor is gone; called on the event loop."""
        self.board.set_state(self.assignment.index, State.READY)
        asyncio.get_running_loop().add_reader(self.assignment.lifeline, self._orphaned)

    def beat(self, broken: bool) -> None:
        """Says that the worker's event loop turns; called once a second.

        Args:
            broken: whether only a restart helps.
        """
        self.board.beat(self.assignment.index)
        if broken:
            self.board.set_state(self.assignment.index, State.BROKEN)

    def _orphaned(self) -> None:
        with suppress(ValueError):
            asyncio.get_running_loop().remove_reader(self.assignment.lifeline)
        # Nobody else is left to do so; what is mapped stays until the last worker has ended.
        shutil.rmtree(self.assignment.folder, ignore_errors=True)
        os.kill(os.getpid(), signal.SIGTERM)


def board_file(folder: Path) -> Path:
    """Where the board of all workers is, in the folder that they share."""
    return folder / _BOARD
