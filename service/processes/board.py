"""What the processes of a service know of each other, in memory that they share."""

import mmap
from enum import IntEnum
from pathlib import Path

# Each number is written at once by the processor, so nobody reads half of one.
_BYTES = 8
_WANTED = 0
_STATE, _PID, _STARTS, _BEATS = range(4)
_FIELDS = 4


class State(IntEnum):
    """What a worker can do."""

    STARTING = 0
    READY = 1
    BROKEN = 2


class Board:
    """A few numbers of each worker, in a file that all of them map.

    The supervisor writes all but a worker's state and beats, which that worker writes.

    Args:
        file: is made where there is none.
        workers: how many there are.
    """

    def __init__(self, file: Path, workers: int) -> None:
        self.workers = workers
        size = _BYTES * (1 + _FIELDS * workers)
        with file.open("a+b") as opened:
            opened.truncate(size)
            self._numbers = memoryview(mmap.mmap(opened.fileno(), size)).cast("q")

    @property
    def wanted(self) -> bool:
        """Whether requests are wanted: all workers have started, and none has been told to end."""
        return bool(self._numbers[_WANTED])

    @wanted.setter
    def wanted(self, wanted: bool) -> None:
        self._numbers[_WANTED] = wanted

    def state(self, worker: int) -> State:
        """What a worker, counted from 0, can do."""
        return State(self._get(worker, _STATE))

    def set_state(self, worker: int, state: State) -> None:
        """Says what a worker can do."""
        self._set(worker, _STATE, state)

    def pid(self, worker: int) -> int:
        """The worker's process; 0 while there is none."""
        return self._get(worker, _PID)

    def starts(self, worker: int) -> int:
        """How often a worker has been started."""
        return self._get(worker, _STARTS)

    def begin(self, worker: int, pid: int) -> None:
        """Notes that a worker has been started."""
        self._set(worker, _PID, pid)
        self._set(worker, _STARTS, self.starts(worker) + 1)

    def end(self, worker: int) -> None:
        """Notes that a worker's process is no more."""
        self.set_state(worker, State.STARTING)
        self._set(worker, _PID, 0)

    def beats(self, worker: int) -> int:
        """Grows by one each second for as long as a worker's event loop turns."""
        return self._get(worker, _BEATS)

    def beat(self, worker: int) -> None:
        """Says that a worker's event loop turns."""
        self._set(worker, _BEATS, self.beats(worker) + 1)

    def _get(self, worker: int, field: int) -> int:
        return self._numbers[1 + worker * _FIELDS + field]

    def _set(self, worker: int, field: int, value: int) -> None:
        self._numbers[1 + worker * _FIELDS + field] = value
