"""Ctrl-C during a training: never in the middle of a step, so that a checkpoint can be written at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was pressed, and nothing is half done."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C ended a training; the message says where. Its checkpoint holds everything up to there.

    Attributes:
        phase: of the command; empty for the training itself.
    """

    def __init__(self, where: str, phase: str = "") -> None:
        super().__init__(where)
        self.phase = phase

    def __str__(self) -> str:
        return f"{self.args[0]}, in the {self.phase}" if self.phase else str(self.args[0])


class Interrupts:
    """Turns Ctrl-C into `Interrupted`, which is raised at once or, inside `held`, at its end.

    A second Ctrl-C inside `held` is an ordinary `KeyboardInterrupt`, for those who cannot wait. Where signals cannot be
    handled (outside of the main thread) or must not be (`active`), Ctrl-C is always an ordinary one.
    """

    def __init__(self, active: bool = True) -> None:
        self._active = active and threading.current_thread() is threading.main_thread()
        self._previous: Any = None
        self._holds = self._asked = False

    def __enter__(self) -> "Interrupts":
        if self._active:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, self._previous)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What must not be left half done."""
        self._holds = True
        try:
            yield
        finally:
            self._holds = False
        if self._asked:
            self._asked = False
            raise Interrupted

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's signature
        if not self._holds:
            raise Interrupted
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
