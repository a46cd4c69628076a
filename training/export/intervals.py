"""How far a test figure may be from what more test data would give: 95 % intervals."""

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

LEVEL = 0.95
RESAMPLES = 1000

Interval = tuple[float, float]


def wilson(right: int, count: int) -> Interval:
    """The interval of a share of `count` items, of which `right` have a property (Wilson 1927).

    Unlike one standard error around the share it does not shrink to nothing at 0 and at 1: of 36 items without a
    mistake it says that the accuracy is at least 0.90.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share = right / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def clopper_pearson(right: int, count: int) -> Interval:
    """The exact binomial interval of a share of `count` items, of which `right` have a property."""
    interval = binomtest(right, count).proportion_ci(LEVEL)
    return float(interval.low), float(interval.high)


def bootstrap(
    measure: Callable[[npt.NDArray[np.int64]], Mapping[str, float]], count: int, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """The intervals of figures over items: their spread over test splits drawn from the test split (Efron 1979).

    Args:
        measure: the figures, given the indices of the items, some of which are drawn more than once.
        count: the number of items.
        resamples: how often they are drawn.
    """
    random = np.random.default_rng(0)
    rows = [measure(random.integers(0, count, count)) for _ in range(resamples)]
    names = rows[0].keys() if rows else ()
    return {name: _middle(np.array([row[name] for row in rows])) for name in names}


def bootstrap_confusion(
    measure: Callable[[npt.NDArray[np.int64]], float], confusion: npt.NDArray[np.int64], resamples: int = RESAMPLES
) -> Interval:
    """Likewise of a figure that only depends on the confusion matrix, whose cells are drawn."""
    random = np.random.default_rng(0)
    count = int(confusion.sum())
    draws = random.multinomial(count, (confusion / count).ravel(), size=resamples)
    return _middle(np.array([measure(draw.reshape(confusion.shape)) for draw in draws]))


def difference(value: float, interval: Interval, other: float, of_other: Interval) -> Interval:
    """The interval of `value - other`, two independent figures with intervals of their own.

    The distances to their bounds are added as squares (Zou and Donner 2008); with `wilson` for both this is Newcombe's
    interval of the difference of two shares (1998, method 10). Figures on the same test items rise and fall together,
    so the difference is at least as certain as this says.
    """
    down = math.hypot(value - interval[0], of_other[1] - other)
    up = math.hypot(interval[1] - value, other - of_other[0])
    return value - other - down, value - other + up


def _middle(values: npt.NDArray[np.float64]) -> Interval:
    # A figure that is not a number (average precision without an object) says nothing.
    low, high = np.nanquantile(values, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
