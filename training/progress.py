"""The progress bar of a training."""

import time
from collections.abc import Callable

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

# Seconds between two readings of the figures: each of them waits for the device.
_REFRESH = 0.5


class ProgressBar:
    """A progress bar at a terminal; nothing in logs, which get a line per epoch.

    Args:
        console: where it is drawn.
        title: stands before the bar.
        steps: of the whole.
        done: how many of them are done already.
        accelerator: of several processes, only the main one draws.
    """

    def __init__(self, console: Console, title: str, steps: int, done: int, accelerator: Accelerator) -> None:
        self._drawn = console.is_terminal and accelerator.is_main_process
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self._drawn,
        )
        self._task = self._bar.add_task("", total=steps, completed=done, status="")
        self._read = 0.0

    def __enter__(self) -> Callable[[Callable[[], str]], None]:
        """Returns what is to be called after every step, with what says how it goes."""
        self._bar.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _advance(self, status: Callable[[], str]) -> None:
        if not self._drawn:
            return
        self._bar.advance(self._task)
        if time.monotonic() - self._read > _REFRESH:
            self._bar.update(self._task, status=status())
            self._read = time.monotonic()
