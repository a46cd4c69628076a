"""The inputs on which two versions differ most: a bounded number of them, in bounded memory."""

import heapq
import json
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pydantic_core

from service.processes.board import Board
from service.tasks.base import Sample

_MOST = 32
# Of an example, with both answers. A larger one is left out.
_MOST_BYTES = 500_000
# Of all answers that are shown together; writing them takes the event loop milliseconds.
_MOST_SHOWN_BYTES = 1_000_000
# Index of the process and number; clients choose it.
_ID = re.compile(r"([0-9]{1,6})-([0-9]{1,12})")


@dataclass(frozen=True, slots=True)
class Example:
    """An input with the answers of both versions.

    Attributes:
        difference: between the answers.
        label: of the input, according to the default version.
        answer: of the default version, as /v1 gives it.
        candidate: that of the candidate.
        sample: the input.
    """

    difference: float
    label: str | None
    answer: dict[str, Any]
    candidate: dict[str, Any]
    sample: Sample


class Examples:
    """The examples of one process, which every process can show.

    Args:
        board: keeps them.
        model: that they are inputs of.
    """

    def __init__(self, board: Board, model: str) -> None:
        self._board = board
        self._model = model
        # IDs are not used again: clients may have kept the samples of earlier ones.
        self._count = int(time.time())
        self._heap: list[tuple[float, int]] = []
        # Examples are added on a thread, and may end meanwhile.
        self._lock = threading.Lock()
        self._ended = False

    def wants(self, difference: float) -> bool:
        """Whether an example with this difference would be kept; answers that are the same are no example."""
        return difference > 0 and (len(self._heap) < _MOST or difference > self._heap[0][0])

    def add(self, example: Example) -> None:
        """Keeps an example, and drops the one that differs least if there are too many; safe on any thread."""
        header = {
            "difference": example.difference,
            "label": example.label,
            "media_type": example.sample.media_type,
            "answer": example.answer,
            "candidate": example.candidate,
        }
        data = pydantic_core.to_json(header, inf_nan_mode="null") + b"\n" + example.sample.data
        with self._lock:
            if len(data) > _MOST_BYTES or self._ended or not self.wants(example.difference):
                return
            self._count += 1
            self._board.attach(_name(self._model, self._count), data)
            heapq.heappush(self._heap, (example.difference, self._count))
            if len(self._heap) > _MOST:
                self._board.detach(_name(self._model, heapq.heappop(self._heap)[1]))

    def end(self) -> None:
        """Drops all of them, and keeps no more."""
        with self._lock:
            self._ended = True
            for _, number in self._heap:
                self._board.detach(_name(self._model, number))
            self._heap.clear()

    def ids(self) -> list[tuple[float, str]]:
        """The difference and the ID of each."""
        return [(difference, f"{self._board.index}-{number}") for difference, number in list(self._heap)]


def show(board: Board, model: str, ids: Iterable[tuple[float, str]]) -> list[dict[str, Any]]:
    """The examples that differ most, without their samples; `ids` are those of all processes."""
    shown: list[dict[str, Any]] = []
    room = _MOST_SHOWN_BYTES
    for _, identity in sorted(ids, reverse=True)[:_MOST]:
        if (data := _read(board, model, identity)) is not None:
            header = data.partition(b"\n")[0]
            room -= len(header)
            if room < 0:
                break
            shown.append({"id": identity, **json.loads(header)})
    return shown


def sample_of(board: Board, model: str, identity: str) -> Sample | None:
    """The input of an example; None if there is none of this ID, or none any more."""
    data = _read(board, model, identity)
    if data is None:
        return None
    header, _, content = data.partition(b"\n")
    return Sample(json.loads(header)["media_type"], content)


def _read(board: Board, model: str, identity: str) -> bytes | None:
    found = _ID.fullmatch(identity)
    return board.attachment(int(found[1]), _name(model, int(found[2]))) if found else None


def _name(model: str, number: int) -> str:
    return f"example {number} of {model}"
