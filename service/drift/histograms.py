"""The histogram of a statistic, as a manifest keeps it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from service.drift.distance import OTHERS, THRESHOLD, chance_threshold, edges
from service.tasks.base import Statistic, Values
from service.tasks.histograms import INNER, CategoryHistogram, NumberHistogram

# Of more categories than that, rare ones share a bin: each bin adds noise.
_FEW_CATEGORIES, _RARE = 12, 0.01
# Inner bins reach from one quantile to the other.
_QUANTILES = (0.01, 0.99)


def make_histogram(statistic: Statistic, values: Values) -> NumberHistogram | CategoryHistogram:
    """The histogram of the values of a statistic."""
    made = _categories(statistic, values) if statistic.categories else _numbers(statistic, values.values)
    return made.model_copy(update={"threshold": chance_threshold(made)})


def _categories(statistic: Statistic, values: Values) -> CategoryHistogram:
    names = statistic.categories
    counts = np.bincount(values.values, values.weights, len(names))
    kept = np.full(len(names), True) if len(names) <= _FEW_CATEGORIES else counts >= _RARE * counts.sum()
    bins = {name: round(float(count), 6) for name, count, keep in zip(names, counts, kept, strict=True) if keep}
    if not kept.all():
        bins[OTHERS] = round(float(counts[~kept].sum()), 6)
    return CategoryHistogram(
        part=statistic.part, name=statistic.name, threshold=THRESHOLD,
        categories=tuple(bins), counts=tuple(bins.values()),
    )  # fmt: skip


def _numbers(statistic: Statistic, values: npt.NDArray[Any]) -> NumberHistogram:
    present = values[np.isfinite(values)]
    low, high = np.quantile(present, _QUANTILES) if len(present) else (0.0, 0.0)
    if low == high and len(present):  # nearly all are the same
        low, high = present.min(), present.max()
    if low == high:
        low, high = low - 1e-3 * max(1.0, abs(low)), high + 1e-3 * max(1.0, abs(high))
    width = float(high - low) / INNER
    bounds = edges(float(low), width)
    bins = np.searchsorted(bounds[1:-1], present, side="right")
    return NumberHistogram(
        part=statistic.part, name=statistic.name, threshold=THRESHOLD,
        counts=tuple(map(float, np.bincount(bins, minlength=len(bounds) - 1))),
        low=float(low), width=width,
        mean=float(present.mean()) if len(present) else 0.0,
        std=float(present.std()) or width if len(present) else width,
        missing=float(len(values) - len(present)),
    )  # fmt: skip
