"""Divides items at random so that every class keeps its fraction, rare classes included."""

import hashlib
import math
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from training.data.dataset import DataError, DataSet, stratified_sample

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]
DataT = TypeVar("DataT", bound=DataSet)

_FEWEST_VALIDATION = 50


def draw_stratified(labels: Labels, count: int, seed: int) -> Indices:
    """The indices of `count` random items in ascending order, with about the same fraction of every class.

    Every item is drawn with the probability `count / len(labels)`. The quota of a class is rounded up or down at
    random, so a class with a single item is drawn as often as any other item.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    classes, sizes = np.unique(labels, return_counts=True)
    members = np.split(order[np.argsort(labels[order], kind="stable")], np.cumsum(sizes)[:-1])
    # Systematic sampling: one random start makes all quotas right in expectation and lets them add up to `count`.
    shuffled = random.permutation(len(classes))
    start = int(random.integers(max(1, len(labels))))
    quotas = np.diff((np.cumsum(sizes[shuffled]) * count + start) // max(1, len(labels)), prepend=0)
    drawn = [members[index][:quota] for index, quota in zip(shuffled, quotas, strict=True)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *drawn]))


def limited(name: str, labels: Labels, limit: int, seed: int) -> Indices:
    """The indices of up to `limit` items of a split, ascending; `train` keeps an item of each class if it can."""
    if name == "train":
        return np.sort(stratified_sample(labels, limit, seed))
    return draw_stratified(labels, min(limit, len(labels)), seed)


def split_validation(labels: Labels, seed: int = 0) -> tuple[Indices, Indices]:
    """The sorted indices of the selection half and of the calibration half of validation, stratified by class.

    Selection chooses: the epoch, the vocabulary, the temperature, the variants. Calibration fits conformal thresholds
    and p-values, which hold for new items only if it chose nothing. Published versions have the default seed.
    """
    selection = draw_stratified(labels, (len(labels) + 1) // 2, seed)
    return selection, np.setdiff1d(np.arange(len(labels)), selection)


def division_digest(calibration: Indices) -> str:
    """Identifies a division of validation by the indices of its calibration half."""
    return f"sha256:{hashlib.sha256(calibration.astype('<i8').tobytes()).hexdigest()}"


def selection_of(data: DataT) -> DataT:
    """The same data with the selection half of validation alone, for what chooses; its fingerprint is another one."""
    selection, calibration = data.division
    validation: Any = data.validation
    fingerprint = f"{data.fingerprint}, selection half of {division_digest(calibration)}"
    return replace(data, validation=validation.take(selection), fingerprint=fingerprint)


def validation_fraction(count: int, fraction: float) -> float:
    """The fraction of `count` training items to validate on: `fraction`, but 50 items if they are at most a quarter.

    The epoch is chosen on half of them, and few items choose by chance.
    """
    return max(fraction, min(_FEWEST_VALIDATION, count // 4) / max(1, count))


def hold_out(
    source: str, name: str, count: int, fraction: float, seed: int, labels: Labels | None = None
) -> tuple[Indices, Indices]:
    """The ascending indices of the items that stay for training, and of those that are held out; DataError if too few.

    With labels, about the same fraction of every class is held out, and every class keeps an item for training.
    """
    labels = np.zeros(count, np.int64) if labels is None else labels
    taken = np.zeros(count, dtype=bool)
    taken[draw_stratified(labels, math.ceil(round(fraction * count, 9)), seed)] = True
    for label in np.setdiff1d(labels, labels[~taken]):
        taken[np.flatnonzero(labels == label)[0]] = False
    if not taken.any():
        raise DataError(f"{source}: too few items ({count}) to hold out a {name} split.")
    return np.flatnonzero(~taken), np.flatnonzero(taken)
