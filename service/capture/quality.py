"""How good the answers of each version were, by the feedback on them, with 95 % intervals."""

import math
from collections.abc import Sequence
from typing import Any

from service.capture.feedback_table import Sums
from service.lifecycle.statistics import Z_95, wilson

# Figures that are shares of right answers, and those that cannot exceed 1.
_SHARES = ("accuracy", "right")
_AT_MOST_ONE = (*_SHARES, "F1 at an IoU of 0.5")


def estimate(sums: Sequence[Sums]) -> dict[str, Any]:
    """The figure of some feedback, all of one figure: the sum of points over that of weights.

    The interval of a share is Wilson's (1927). That of any other figure is the normal interval of a ratio of sums
    (Cochran 1977, section 6.3), for items that are independent of each other; null with fewer than two items.
    """
    figure, count = sums[0].figure, sum(each.count for each in sums)
    p, w, pp, pw, ww = (sum(getattr(each, name) for each in sums) for name in ("p", "w", "pp", "pw", "ww"))
    value = p / w
    if figure in _SHARES:
        low, high = wilson(round(p), count)
        return {"figure": figure, "count": count, "value": value, "low": low, "high": high}
    if count < 2:
        return {"figure": figure, "count": count, "value": value, "low": None, "high": None}
    spread = max(0.0, pp - 2 * value * pw + value * value * ww) * count / (count - 1)
    half = Z_95 * math.sqrt(spread) / w
    high = min(1.0, value + half) if figure in _AT_MOST_ONE else value + half
    return {"figure": figure, "count": count, "value": value, "low": max(0.0, value - half), "high": high}


def by_version(sums: Sequence[Sums], since: float, window: float) -> list[dict[str, Any]]:
    """The figures of each version, in total and by window, the newest version first."""
    found = []
    for version in sorted({each.version for each in sums}, key=int, reverse=True):
        for figure in sorted({each.figure for each in sums if each.version == version}):
            of_both = [each for each in sums if (each.version, each.figure) == (version, figure)]
            windows = [
                {"time": since + window * each.window, **estimate([each])}
                for each in sorted(of_both, key=lambda each: each.window)
            ]
            found.append({"version": version, **estimate(of_both), "windows": windows})
    return found
