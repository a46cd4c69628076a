"""The last items of a version, counted by bins, in bounded memory."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from service.drift.distance import ITEMS, Bins, Floats
from service.tasks.base import Values

# A window advances by as many items: it consists of the last full blocks, which hold at least `ITEMS`, and of what
# came since.
_BLOCK = 250
_BLOCKS = -(-ITEMS // _BLOCK)


class Counts:
    """Items counted by the bins of every statistic.

    Args:
        sizes: the number of bins of each statistic.

    Attributes:
        items: how many there are.
        since: when the first one came, in seconds since the epoch.
        bins: the counts of each statistic.
        sums: the sum of the values of each statistic and that of their squares, shape (statistics, 2).
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.items = 0
        self.since = time.time()
        self.bins: list[Floats] = [np.zeros(size) for size in sizes]
        self.sums = np.zeros((len(sizes), 2))

    def add(self, every: Sequence[Bins], values: Sequence[Values], items: int) -> None:
        """Counts the values of so many items."""
        counted = [bins.count(found) for bins, found in zip(every, values, strict=True)]  # all of them, or none
        self.items += items
        for index, (counts, *sums) in enumerate(counted):
            self.bins[index] += counts
            self.sums[index] += sums

    def merge(self, other: "Counts") -> None:
        """Adds what another has counted by the same bins."""
        self.items += other.items
        self.since = min(self.since, other.since)
        for mine, theirs in zip(self.bins, other.bins, strict=True):
            mine += theirs
        self.sums += other.sums

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        bins = [counts.round(6).tolist() for counts in self.bins]
        return {"items": self.items, "since": self.since, "bins": bins, "sums": self.sums.tolist()}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        counts = cls([len(bins) for bins in document["bins"]])
        counts.items, counts.since = document["items"], document["since"]
        counts.bins = [np.array(bins) for bins in document["bins"]]
        counts.sums = np.array(document["sums"])
        return counts

    @classmethod
    def sum(cls, sizes: Sequence[int], every: Iterable["Counts"]) -> Self:
        """Several, added up; those of other bins are left out."""
        total = cls(sizes)
        for counts in every:
            if [len(bins) for bins in counts.bins] == list(sizes):
                total.merge(counts)
        return total


class Window:
    """Counts of the last items, at least `ITEMS` once there were as many.

    Args:
        every: the bins of each statistic.
    """

    def __init__(self, every: Sequence[Bins]) -> None:
        self._every = every
        self._sizes = [len(bins.reference) for bins in every]
        self._full: deque[Counts] = deque(maxlen=_BLOCKS)
        self._current: Counts | None = None

    def add(self, values: Sequence[Values], items: int) -> None:
        """Counts the values of so many items."""
        if self._current is None:
            self._current = Counts(self._sizes)
        self._current.add(self._every, values, items)
        if self._current.items >= _BLOCK:
            self._full.append(self._current)
            self._current = None

    def counts(self) -> Counts:
        """All blocks, added up."""
        return Counts.sum(self._sizes, [*self._full, *([self._current] if self._current else [])])
