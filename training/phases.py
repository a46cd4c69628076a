"""The phases of a training around its epochs: their names, how long they took, and how long they will take."""

import contextlib
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from training.engine.interrupts import Stopped
from training.engine.progress import duration

FAILURES = "failures.txt"
# Shorter parts of an estimate are not worth naming.
_NAMED_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A phase that follows the training, for the estimate.

    Attributes:
        name: of the phase.
        items: that pass through the network without gradients, at the pace of validation.
        fits: trainings as long as the first.
        seconds: what it takes beside these.
    """

    name: str
    items: int = 0
    fits: float = 0
    seconds: float = 0


@dataclass(slots=True)
class Phases:
    """The phases of one run.

    Attributes:
        folder: of the run, which gets the tracebacks of failures.
        seconds: that each phase took, by its name.
        failed: the optional phases that failed.
    """

    console: Console
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Announces a phase and times it; Ctrl-C within it says its name."""
        if not self._names:
            self.console.print(f"{name} …", highlight=False)
        self._names.append(name)
        started = time.perf_counter()
        try:
            yield
        except KeyboardInterrupt as error:
            if isinstance(error, Stopped) and error.phase:
                raise
            raise Stopped(str(error) or "stopped", name) from None
        finally:
            self._names.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @contextlib.contextmanager
    def optional(self, name: str) -> Iterator[None]:
        """A phase whose failure costs the version only this part; the traceback goes to the folder of the run."""
        try:
            with self.phase(name):
                yield
        except Exception as error:
            self.failed.append(name)
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / FAILURES).open("a") as file:
                file.write(f"{name}:\n{traceback.format_exc()}\n")
            cause = f"{type(error).__name__}: {error}".partition("\n")[0]
            self.console.print(
                f"The {name} failed ({cause}). The version lacks it; {self.folder / FAILURES} has the traceback.",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )


def estimate(left: float, whole: float, items_per_second: float, work: Sequence[Work]) -> tuple[float, str]:
    """The seconds that a command still takes, and their parts in words; empty if there is but one.

    Args:
        left: seconds that the rest of the training takes.
        whole: seconds that all of it takes.
        items_per_second: of validation.
        work: what follows the training.
    """
    parts = {"training": left}
    for each in work:
        seconds = each.items / items_per_second + each.fits * whole + each.seconds
        parts[each.name] = parts.get(each.name, 0.0) + seconds
    named = [f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds >= _NAMED_SECONDS]
    return sum(parts.values()), ", ".join(named) if len(named) > 1 else ""
