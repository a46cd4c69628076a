"""How a training goes, in lines of at most 80 columns."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress import track as track_always

Item = TypeVar("Item")

# Seconds between two readings of the figures: each of them waits for the device.
_REFRESH = 0.5
_WIDTH = 80
# Names of figures as people say them.
_WORDS = {"map": "mAP", "map_50": "mAP50", "mse": "error", "linear": "linear probe"}


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
            BarColumn(bar_width=10),
            TextColumn("{task.fields[status]}", markup=False),
            console=console,
            transient=True,
            disable=not self._drawn,
        )
        self._room = _WIDTH - len(title) - 12
        self._task = self._bar.add_task("", total=steps, completed=done, status="")
        self._read = 0.0

    def __enter__(self) -> Callable[[Callable[[], Mapping[str, float]]], None]:
        """Returns what is to be called after every step, with what gives the figures: a rate, the seconds `left`."""
        self._bar.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _advance(self, status: Callable[[], Mapping[str, float]]) -> None:
        if not self._drawn:
            return
        self._bar.advance(self._task)
        if time.monotonic() - self._read > _REFRESH:
            self._bar.update(self._task, status=describe_status(status())[: self._room])
            self._read = time.monotonic()


def track(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a bar at a terminal that shows how many are done; it is gone in the end.

    Args:
        items: of any kind.
        title: stands before the bar.
        total: how many there are, where that cannot be told from them.
    """
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


def describe_epoch(epoch: int, epochs: int, record: Mapping[str, float], score: str, unit: str) -> str:
    """The line of an epoch that is done: the losses, the validation figures, and the pace.

    Args:
        epoch: counted from 1.
        epochs: of the whole training.
        record: its figures; those of the validation are called `validation_…`, the training loss `train_loss`.
        score: the validation figure that chooses the epoch, which comes first.
        unit: what the items are.
    """
    parts = [f"epoch {epoch:>{len(str(epochs))}}/{epochs}", f"loss {record['train_loss']:.4g}"]
    figures = validation_figures(record, score)
    rate = f"{record[f'{unit}_per_second']:,.0f} {unit}/s"
    line = "  ".join(parts) + "  validation"
    for number, (name, value) in enumerate(figures.items()):
        more = f" {_WORDS.get(name, name)} {value:.4g}"
        if len(line) + len(more) + len(rate) + 2 > _WIDTH and number:
            break
        line += more
    return f"{line}  {rate}"


def validation_figures(record: Mapping[str, float], score: str) -> dict[str, float]:
    """The validation figures of an epoch by their plain names, the most telling first.

    Args:
        record: of the epoch.
        score: the figure that chooses the epoch; one that is called just that is a loss turned round.
    """
    figures = {name.removeprefix("validation_"): value for name, value in record.items() if "validation_" in name}
    names = sorted(figures, key=lambda name: (name != score, name not in ("accuracy", "error"), name != "loss"))
    return {name: figures[name] for name in names if name != "score"}


def duration(seconds: float) -> str:
    """A time span in a word or two: 42 s, 3:20 min, 2:05 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60}:{minutes % 60:02d} h"
