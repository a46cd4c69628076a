"""Values into bins, and the distance between two histograms.

Numbers: the Wasserstein distance (the area between the two distribution functions), in standard deviations of the
reference. Categories: the Jensen-Shannon distance, from 0 to 1. From 0.1 on, 1,000 items count as drifted, as
evidently (https://docs.evidentlyai.com) has it, unless chance alone can give as much: a small validation split, or many
categories.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.tasks.base import Values
from service.tasks.histograms import BINS, GROWTH, INNER, OUTER, CategoryHistogram, NumberHistogram

Floats = npt.NDArray[np.float64]

# From so many items on, a window is compared.
ITEMS = 1000
THRESHOLD = 0.1
# A threshold is at least this many standard deviations above the mean of distances that chance gives, and so many
# samples tell both. Of windows of the same distribution one in 10,000 exceeds it.
_DEVIATIONS, _SAMPLES = 5.0, 400
# The category of all rare ones.
OTHERS = "(others)"


class Bins:
    """The bins of a histogram, ready to count values.

    Args:
        histogram: of the manifest.
        categories: the names that values are indices of; of categories alone.

    Attributes:
        reference: the counts of the manifest; of numbers, those without a value are the last one.
    """

    def __init__(self, histogram: NumberHistogram | CategoryHistogram, categories: Sequence[str] = ()) -> None:
        self.histogram = histogram
        if isinstance(histogram, NumberHistogram):
            self.edges = edges(histogram.low, histogram.width)
            self.reference = np.array([*histogram.counts, histogram.missing])
            return
        bins = {name: index for index, name in enumerate(histogram.categories)}
        rest = len(bins) - 1
        self._bin_of = np.array([bins.get(name, rest) for name in categories], np.int64)
        self.reference = np.array(histogram.counts)

    def count(self, values: Values) -> tuple[Floats, float, float]:
        """The counts of values by bin, and, of numbers, the sum of the values and that of their squares."""
        found, weights = values
        if isinstance(self.histogram, CategoryHistogram):
            return np.bincount(self._bin_of[found], weights, len(self.reference)).astype(np.float64), 0.0, 0.0
        missing = np.isnan(found)
        present = np.clip(found[~missing] if missing.any() else found, self.edges[0], self.edges[-1])
        bins = np.searchsorted(self.edges[1:-1], present, side="right")
        counts = np.append(np.bincount(bins, minlength=BINS), missing.sum()).astype(np.float64)
        return counts, float(present.sum()), float(np.square(present).sum())

    def distance(self, counts: Floats) -> float:
        """The distance of a window from the reference."""
        return float(_distance(self.histogram, self.reference, counts))


def edges(low: float, width: float) -> Floats:
    """The edges of the bins of numbers, shape (BINS + 1,)."""
    outer = width * np.cumsum(GROWTH ** np.arange(1, OUTER + 1))
    inner = low + width * np.arange(INNER + 1)
    return np.concatenate((inner[0] - outer[::-1], inner, inner[-1] + outer))


def chance_threshold(histogram: NumberHistogram | CategoryHistogram) -> float:
    """The distance from which on `ITEMS` items count as drifted.

    It is `THRESHOLD`, or more where two samples of one distribution, as large as the reference and as `ITEMS`, are
    often as far apart.
    """
    counts = Bins(histogram).reference
    total = max(1, round(counts.sum()))
    # A category that did not occur may have been missed by chance.
    prior = 0.5 if isinstance(histogram, CategoryHistogram) else 0.0
    shares = (counts + prior) / (counts + prior).sum()
    random = np.random.default_rng(0)
    samples = [random.multinomial(size, shares, _SAMPLES).astype(np.float64) for size in (total, ITEMS)]
    distances = _distance(histogram, *samples)
    chance = float(distances.mean() + _DEVIATIONS * distances.std())
    return max(THRESHOLD, math.ceil(1000 * chance) / 1000)


def _distance(histogram: NumberHistogram | CategoryHistogram, reference: Floats, counts: Floats) -> Any:
    """Over the last axis of counts, the others being samples."""
    if isinstance(histogram, CategoryHistogram):
        return _jensen_shannon(reference, counts)
    of_values = _wasserstein(reference[..., :-1], counts[..., :-1], edges(histogram.low, histogram.width))
    of_missing = _jensen_shannon(_present_or_missing(reference), _present_or_missing(counts))
    return np.maximum(of_values / histogram.std, of_missing)


def _present_or_missing(counts: Floats) -> Floats:
    return np.stack((counts[..., :-1].sum(-1), counts[..., -1]), axis=-1)


def _shares(counts: Floats) -> Floats:
    """Counts as parts of their sum; all 0 if there are none."""
    total = counts.sum(-1, keepdims=True)
    shares: Floats = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return shares


def _wasserstein(counts: Floats, others: Floats, bounds: Floats) -> Any:
    """The distance of two histograms whose values are spread evenly within each bin; 0 if one of them is empty."""
    some = (counts.sum(-1) > 0) & (others.sum(-1) > 0)
    gaps = np.abs(np.cumsum(_shares(counts) - _shares(others), axis=-1))
    before = np.concatenate((np.zeros((*gaps.shape[:-1], 1)), gaps[..., :-1]), axis=-1)
    return np.where(some, (np.diff(bounds) * (before + gaps) / 2).sum(-1), 0.0)


def _jensen_shannon(counts: Floats, others: Floats) -> Any:
    """The square root of the Jensen-Shannon divergence in bits (Lin 1991); 0 if one of the histograms is empty."""
    some = (counts.sum(-1) > 0) & (others.sum(-1) > 0)
    p, q = _shares(counts), _shares(others)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return np.where(some, np.sqrt(np.maximum(divergence, 0.0)), 0.0)


def _relative_entropy(p: Floats, q: Floats) -> Any:
    ratio = np.divide(p, q, out=np.ones(np.broadcast_shapes(p.shape, q.shape)), where=(p > 0) & (q > 0))
    return (p * np.log2(ratio)).sum(-1)
