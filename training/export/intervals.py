"""How far a test figure may be from what more test data would give: 95 % intervals."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

RESAMPLES = 1000

Interval = tuple[float, float]


def wilson(right: int, count: int) -> Interval:
    """The interval of a fraction of `count` items, of which `right` have a property (Wilson 1927).

    Unlike one standard error around the fraction it does not shrink to nothing at 0 and at 1.
    """
    low, high = binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(low), float(high)


def bootstrap(
    measure: Callable[[npt.NDArray[np.int64]], Mapping[str, float]], count: int, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """The intervals of figures over items: their spread over test splits drawn from the test split (Efron 1979).

    Args:
        measure: the figures, given the indices of the `count` items, some of which are drawn more than once.
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
    interval of the difference of two fractions (1998, method 10). It is conservative for figures on the same items.
    """
    down = math.hypot(value - interval[0], of_other[1] - other)
    up = math.hypot(interval[1] - value, other - of_other[0])
    return value - other - down, value - other + up


def _middle(values: npt.NDArray[np.float64]) -> Interval:
    # A figure that is not a number (average precision without an object) says nothing.
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)
