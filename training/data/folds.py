"""Parts of a data set for cross-validation: each is held out once, and the others train."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from training.data.dataset import DataSet
from training.data.lazy import Images, LazyImages, Pixels
from training.data.splits import Indices, Labels, hold_out

DataT = TypeVar("DataT", bound=DataSet)

# The fraction of the items of a fold that chooses the epoch: that of the data set within these limits.
_LEAST, _MOST = 0.1, 0.25


def fold(data: DataT, index: int, of: int, seed: int) -> DataT:
    """The data set of one fold: its test split is a part of the training and validation items, the others train.

    The validation split is held out from the others. The test split of `data` is not used.

    Args:
        data: its splits are dataclasses of arrays, tuples or `LazyImages` and have the method `take`; `labels`, int64
            of shape (items,), are kept balanced where they have them.
        index: of the part, from 0.
        of: how many parts there are.
        seed: of the division.
    """
    items = _joined(data.train, data.validation)
    labels = _labels(items)
    held, rest = divide(labels, index, of, seed)
    fraction = min(max(len(data.validation) / len(items), _LEAST), _MOST)
    train, validation = hold_out(data.name, "validation", len(rest), fraction, seed, labels[rest])
    parts: Any = {
        "train": items.take(rest[train]),
        "validation": items.take(rest[validation]),
        "test": items.take(held),
        "fingerprint": f"{data.fingerprint}, part {index + 1} of {of} with the seed {seed}",
    }
    return replace(data, **parts)


def divide(labels: Labels, index: int, of: int, seed: int) -> tuple[Indices, Indices]:
    """The ascending indices of a part of the items, and of the others; every class keeps an item among the others."""
    order = np.random.default_rng(seed).permutation(len(labels))
    part = np.empty(len(labels), np.int64)
    part[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(labels)) % of
    held = part == index
    for label in np.setdiff1d(labels, labels[~held]):
        held[np.flatnonzero(labels == label)[0]] = False
    return np.flatnonzero(held), np.flatnonzero(~held)


def _labels(items: Any) -> Labels:
    labels = getattr(items, "labels", None)
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        return labels
    return np.zeros(len(items), np.int64)


def _joined(*splits: Any) -> Any:
    """A split with the items of all of them."""
    values = {each.name: [getattr(split, each.name) for split in splits] for each in fields(splits[0])}
    return replace(splits[0], **{name: _concatenated(parts) for name, parts in values.items()})


def _concatenated(parts: Sequence[Any]) -> Any:
    if any(isinstance(part, LazyImages) for part in parts):
        return LazyImages(_Joined(parts), np.arange(sum(map(len, parts))), parts[0].shape[1:])
    if isinstance(parts[0], tuple):
        return sum(parts, ())
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class _Joined:
    """Decodes the images of several splits; can be sent to other processes."""

    parts: Sequence[Images]

    def __call__(self, index: int) -> Pixels:
        ends = np.cumsum([len(part) for part in self.parts]).tolist()
        which = bisect.bisect_right(ends, index)
        return self.parts[which][np.int64(index - (ends[which - 1] if which else 0))]
