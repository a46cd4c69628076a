"""The progress bar of a training."""

from collections.abc import Callable

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A progress bar at a terminal; nothing in logs, which get a line per epoch."""

    def __init__(self, console: Console, title: str, steps: int, accelerator: Accelerator) -> None:
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not (console.is_terminal and accelerator.is_main_process),
        )
        self._steps = steps

    def __enter__(self) -> Callable[[str], None]:
        self._bar.start()
        task = self._bar.add_task("", total=self._steps, status="")
        return lambda status: self._bar.update(task, advance=1, status=status)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
