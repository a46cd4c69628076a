"""Confidence intervals of shares: how far chance alone may move them."""

import math

# Of a normal distribution, for intervals of 95 %.
Z_95 = 1.959964
# For decisions that are taken again with every request: at 95 % one of them would soon be wrong by chance.
Z_DECISION = 3.0


def wilson(count: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """The confidence interval of a share (Wilson 1927); from 0 to 1 if there is nothing to count."""
    if not total:
        return 0.0, 1.0
    share, square = count / total, z * z
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total * total)) / (1 + square / total)
    # Rounding must not exclude the share itself.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def least_excess(count: int, total: int, base_count: int, base_total: int, z: float = Z_DECISION) -> float:
    """The lower end of the interval of a share minus a base share (Newcombe 1998, method 10)."""
    share, base = count / total, base_count / base_total
    low, high = wilson(count, total, z)[0], wilson(base_count, base_total, z)[1]
    return share - base - math.sqrt((share - low) ** 2 + (high - base) ** 2)
