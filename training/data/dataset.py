"""What the data sets of every task have in common."""

from collections.abc import Sequence, Sized
from dataclasses import Field, dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from rich.console import Console


class DataError(Exception):
    """The data set cannot be used as it is; the message says what is wrong and where."""


@dataclass(slots=True)
class Inspection:
    """What to know about a data set before training: how it was read, what is suspicious, which items are left out."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def print(self, console: Console) -> None:
        for note in self.notes:
            console.print(note, highlight=False)
        for warning in self.warnings + self.dropped:
            console.print(warning, style="yellow", highlight=False)


class DataSet(Protocol):
    """What every data set says about itself; each is a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def inspection(self) -> Inspection: ...
    @property
    def train(self) -> Sized: ...
    @property
    def validation(self) -> Sized: ...
    @property
    def test(self) -> Sized: ...
    @property
    def division(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]: ...


def absent_classes(classes: Sequence[str], labels: npt.NDArray[Any]) -> list[str]:
    """The classes that no item has; `labels` are class indices of any shape."""
    return [classes[index] for index in np.setdiff1d(np.arange(len(classes)), labels)]


def class_names(labels: npt.NDArray[Any], classes: Sequence[str]) -> tuple[str, ...]:
    """The names of class indices."""
    return tuple(classes[label] for label in labels)


def stratified_sample(labels: npt.NDArray[Any], limit: int, seed: int) -> npt.NDArray[np.int64]:
    """The indices of up to `limit` items: about the same fraction of every class, and one of each if possible.

    Rare classes are drawn too often: this is for trials and samples; see `training.data.splits.draw_stratified`.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    # Each item's rank within its class, divided by its size: the lowest ranks are the same fraction of every class.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members)) / len(members)
    chosen: npt.NDArray[np.int64] = order[np.argsort(rank[order], kind="stable")[:limit]]
    return chosen
