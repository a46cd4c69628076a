"""Cross-validation of a whole training: other networks, each measured on a part of the items that it has not seen."""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from training.data.folds import fold
from training.engine.interrupts import Stopped
from training.engine.progress import duration
from training.phases import Work

if TYPE_CHECKING:
    from training.recipe import Draft
    from training.run import Run

    # Trains a network as the published one was trained; gives its versions.
    Make = Callable[[Run[Any, Any]], Sequence[Draft]]

PHASE = "cross-validation"
# Further work of a training that is not done for the network of a fold.
NOT_IN_FOLDS = ("out-of-distribution score", "histograms", "variants")
# No fold begins that would end later than this many times the training, or so many seconds.
_TRAININGS, _SECONDS = 2.0, 600.0


@dataclass(frozen=True, slots=True)
class Fold:
    """One network.

    Attributes:
        figures: on the held-out part, by name.
        items: of that part.
        seconds: that training and measuring took.
    """

    figures: dict[str, float]
    items: int
    seconds: float


def limit_of(training: float) -> float:
    """The most seconds that a cross-validation takes after a training of so many seconds."""
    return max(_TRAININGS * training, _SECONDS)


def work(parts: int, training: float, fold: float) -> Work:
    """What it adds to the estimate; a training takes `training` seconds, and all of a fold `fold`."""
    return Work(name=PHASE, seconds=max(fold, min(parts * fold, limit_of(training))))


def cross_validate(run: "Run[Any, Any]", make: "Make", training: float) -> dict[str, dict[str, Any]]:
    """Trains and measures a network for each part of the training and validation items, while there is time.

    Each is made as the published one is: with the same settings, from the initial weights on. A tenth or more of its
    training items choose its epoch, and its exported graph is measured on the held-out part.

    Args:
        run: gives the data, the settings and the number of parts.
        make: trains.
        training: seconds that the training took.

    Returns:
        A study for the record of each version, by the name of its model.

    Raises:
        Stopped: Ctrl-C.
    """
    parts, began, found = run.options.cross_validate, time.perf_counter(), dict[str, list[Fold]]()
    for index in range(parts):
        started, part = time.perf_counter(), f"part {index + 1}/{parts}"
        with _scratch(run.folder / "part") as folder:
            own = _run_of(run, folder, index, part)
            try:
                measured = _measure(own, make)
            except KeyboardInterrupt:
                raise Stopped(f"stopped in part {index + 1} of {parts}", PHASE) from None
        seconds, words = time.perf_counter() - started, ""
        for name, figures in measured.items():
            found.setdefault(name, []).append(Fold(figures, len(own.data.test), seconds))
            words = words or ", ".join(f"{figure} {value:.4f}" for figure, value in figures.items())
        run.console.print(f"{part}: {words} ({duration(seconds)})", highlight=False)
        if time.perf_counter() - began + seconds > limit_of(training):
            break
    studies = {name: _study(run, folds) for name, folds in found.items()}
    for name, study in studies.items():
        run.console.print(f"{PHASE}{f' of {name}' if len(studies) > 1 else ''}: {study['result']}", highlight=False)
    return studies


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder, which does not outlive the block; nor an earlier process that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_of(run: "Run[Any, Any]", folder: Path, index: int, title: str) -> "Run[Any, Any]":
    options = dataclasses.replace(
        run.options, resume=False, track=None, publish=False, keep_weights=False, quantize=False, cross_validate=None
    )
    return dataclasses.replace(
        run,
        options=options,
        data=fold(run.data, index, run.options.cross_validate, run.settings.seed),
        folder=folder,
        console=Console(quiet=True),
        title=title,
        baseline=None,
        from_baseline=False,
        find_rate=False,
    )


def _measure(run: "Run[Any, Any]", make: "Make") -> dict[str, dict[str, float]]:
    """The figures of each version of a fold on its held-out part, by the name of its model."""
    found = {}
    for draft in make(run):
        folder = run.folder / draft.name
        folder.mkdir()
        figures = found[draft.name] = dict(draft.write(folder).headline)
        if run.baseline and run.baseline.figure in figures:
            figures[f"{run.baseline.figure} of the baseline"] = run.baseline.test()
    return found


def _study(run: "Run[Any, Any]", folds: Sequence[Fold]) -> dict[str, Any]:
    """The section of the card."""
    parts, done = run.options.cross_validate, len(folds)
    names = list(folds[0].figures)
    figures = {name: [each.figures[name] for each in folds] for name in names}
    summary = ", ".join(f"{name} {_spread(values)}" for name, values in figures.items())
    return {
        "title": "Cross-validation",
        "method": f"The training and validation items were divided into {parts} parts, stratified by class where an "
        "item has one. For each part another network was trained on the others, with the settings of this one. Its "
        "epoch was chosen on some of their items, and its graph and its baseline were measured on the part. The test "
        "split was not used.",
        "header": ["part", "items", *names, "seconds"],
        "rows": [
            [str(number), str(each.items), *(f"{each.figures[name]:.4f}" for name in names), f"{each.seconds:.0f}"]
            for number, each in enumerate(folds, 1)
        ],
        "figures": figures,
        "result": f"Mean ± standard deviation: {summary} "
        + (f"({parts} parts)." if done == parts else f"({done} of {parts} parts, since the time was up)."),
    }


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")
