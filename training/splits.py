"""Holding out a part of the training items, so that every class keeps some."""

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from training.data import DataError

Indices = npt.NDArray[np.int64]


def hold_out(
    source: str, name: str, count: int, share: float, seed: int, labels: npt.NDArray[Any] | None = None
) -> tuple[Indices, Indices]:
    """Divides items into those that stay and those that are held out, both in ascending order.

    With labels, about the same share of every class is held out. A class with a single item keeps it for training.

    Args:
        source: of the data, for the error message.
        name: of the split that is held out, likewise.
        count: how many items there are.
        share: of them that are held out.
        seed: of the choice.
        labels: of the items, shape (count,).

    Raises:
        DataError: there are too few items.
    """
    try:
        kept, taken = train_test_split(np.arange(count), test_size=share, random_state=seed, stratify=labels)
        return np.sort(kept), np.sort(taken)
    except ValueError:  # fewer items than classes, or a class with a single item
        chosen = _of_each_class(labels, share, seed) if labels is not None else np.empty(0, np.int64)
    if not len(chosen):
        raise DataError(f"{source}: too few items ({count}) to hold out a {name} split.")
    return np.setdiff1d(np.arange(count), chosen), chosen


def _of_each_class(labels: npt.NDArray[Any], share: float, seed: int) -> Indices:
    random = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: min(len(members) - 1, max(1, round(share * len(members))))])
    return np.sort(np.concatenate(chosen))
