"""What the data sets of every task have in common."""

from collections.abc import Sequence, Sized
from dataclasses import Field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt


class DataError(Exception):
    """The data set cannot be used as it is; the message says what is wrong and where."""


class DataSet(Protocol):
    """What every data set says about itself; each is a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def train(self) -> Sized: ...
    @property
    def validation(self) -> Sized: ...
    @property
    def test(self) -> Sized: ...


def absent_classes(classes: Sequence[str], labels: npt.NDArray[Any]) -> list[str]:
    """The classes that no item has; `labels` are class indices of any shape."""
    present = set(np.unique(labels).tolist())
    return [name for index, name in enumerate(classes) if index not in present]


def stratified_sample(labels: npt.NDArray[Any], limit: int, seed: int) -> npt.NDArray[np.int64]:
    """The indices of up to `limit` items: about the same share of every class, and one of each if `limit` allows it.

    Args:
        labels: of all items, shape (n,).
        limit: how many items are wanted, at most.
        seed: of the choice.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    # Each item's rank within its class, as a share of the class: the lowest ranks are the same share of every class.
    rank = np.empty(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members)) / len(members)
    chosen: npt.NDArray[np.int64] = order[np.argsort(rank[order], kind="stable")[:limit]]
    return chosen
