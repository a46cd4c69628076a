"""How a training goes, in lines that fit the terminal."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.progress import track as track_always

if TYPE_CHECKING:
    from accelerate import Accelerator

Item = TypeVar("Item")

# Characters of a figure with four digits; few have more.
_USUAL = len("0.1234")
# Names of figures as people say them.
_WORDS = {"map": "mAP", "map_50": "mAP50", "mse": "error", "linear": "linear probe"}


class Bar:
    """The progress bar of an epoch."""

    def __init__(self, bar: Progress, task: TaskID, room: int, drawn: bool) -> None:
        self._bar, self._task, self._room, self._drawn, self._read = bar, task, room, drawn, 0.0

    def advance(self, status: Callable[[], Mapping[str, float]]) -> None:
        """Counts a step.

        Args:
            status: gives the figures: a rate, the seconds `left`. It is only called twice a second, since it waits for
                the device.
        """
        if self._drawn:
            self._bar.advance(self._task)
        if self._drawn and time.monotonic() - self._read > 0.5:
            self._bar.update(self._task, status=describe_status(status())[: self._room])
            self._read = time.monotonic()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Takes the bar off the terminal meanwhile, for a question."""
        if self._drawn:
            self._bar.stop()
        yield
        if self._drawn:
            self._bar.start()


@contextlib.contextmanager
def progress_bar(console: Console, title: str, steps: int, done: int, accelerator: "Accelerator") -> Iterator[Bar]:
    """A progress bar at a terminal; nothing in logs, which get a line per epoch."""
    drawn = console.is_terminal and accelerator.is_main_process
    columns = (TextColumn(title), BarColumn(bar_width=10), TextColumn("{task.fields[status]}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not drawn) as bar:
        task = bar.add_task("", total=steps, completed=done, status="")
        yield Bar(bar, task, console.width - len(title) - 12, drawn)


def track(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a bar at a terminal that shows how many are done; it is gone in the end."""
    return track_always(items, title, total=total, transient=True, disable=not sys.stdout.isatty())


def describe_status(figures: Mapping[str, float]) -> str:
    """The figures of the progress line: a rate has a name that ends with /s, `left` is in seconds."""
    parts = []
    for name, value in figures.items():
        if name == "left":
            parts.append(f"{duration(value)} left")
        elif name.endswith("/s"):
            parts.append(f"{value:,.0f} {name}")
        else:
            parts.append(f"{_WORDS.get(name, name)} {value:.4g}")
    return "  ".join(parts)


def describe_epoch(epoch: int, epochs: int, record: Mapping[str, float], score: str, unit: str, width: int = 80) -> str:
    """The line of an epoch that is done: the losses, the validation figures, and the pace.

    Args:
        epoch: counted from 1.
        epochs: of the whole training.
        record: its figures; those of the validation are called `validation_…`, the training loss `train_loss`.
        score: the validation figure that chooses the epoch, which comes first.
        unit: what the items are.
        width: of the line; the last figures are left out where it is too narrow.
    """
    line = f"epoch {epoch:>{len(str(epochs))}}/{epochs}  loss {record['train_loss']:.4g}  validation"
    rate = f"  {record[f'{unit}_per_second']:,.0f} {unit}/s"
    room = len(f"epoch {epochs}/{epochs}  loss   validation    {unit}/s") + _USUAL + len("123,456")
    for number, (name, value) in enumerate(validation_figures(record, score).items()):
        more = f" {_WORDS.get(name, name)} {value:.4g}"
        # Judged by the usual width of figures, so that all epochs show the same ones.
        room += len(more) - len(f"{value:.4g}") + _USUAL
        if number and max(room, len(line + more + rate)) > width:
            break
        line += more
    return line + rate


def validation_figures(record: Mapping[str, float], score: str) -> dict[str, float]:
    """The validation figures of an epoch by their plain names, `score` first; the opposite of the loss is left out."""
    figures = {name.removeprefix("validation_"): value for name, value in record.items() if "validation_" in name}
    names = sorted(figures, key=lambda name: (name != score, name not in ("accuracy", "error"), name != "loss"))
    return {name: figures[name] for name in names if name != "score"}


def duration(seconds: float) -> str:
    """A time span in a word or two: 42 s, 3:20 min, 2:05 h."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"
