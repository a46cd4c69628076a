"""Rate limits of keys: the generic cell rate algorithm, and the header fields that state them.

The algorithm (GCRA; ITU-T I.371) keeps one number per limit: the time at which everything that was taken is paid off.
"""

import math
from collections.abc import Iterable

# Rounding errors must not become a wait.
_NEGLIGIBLE_SECONDS = 1e-6


class Limit:
    """So many units a second, and a burst that may come at once.

    A cost over the burst needs a full burst and is paid off afterwards: it is never refused for good.

    Args:
        unit: what is counted, `requests` or `items`.
        rate: units a second.
        burst: seconds whose units may come at once; at least one unit may.

    Attributes:
        due: the time at which all that was taken is paid off.
    """

    __slots__ = ("_each", "_room", "_size", "due", "policy", "unit")

    def __init__(self, unit: str, rate: float, burst: float) -> None:
        self.unit = unit
        self.due = 0.0
        self._each = 1 / rate
        self._size = max(1.0, rate * burst)
        self._room = self._size * self._each
        window = math.ceil(self._room - _NEGLIGIBLE_SECONDS)
        quota = f'"{unit}";q={int(rate * window + _NEGLIGIBLE_SECONDS)};w={window}'
        self.policy = quota if unit == "requests" else f'{quota};qu="{unit}"'

    def test(self, cost: float, now: float) -> float:
        """Seconds until there is room for `cost` units; 0 if there is room now."""
        wait = max(0.0, self.due - now) + min(cost, self._size) * self._each - self._room
        return wait if wait > _NEGLIGIBLE_SECONDS else 0.0

    def hit(self, cost: float, now: float) -> float:
        """As `test`; takes the units if there is room."""
        wait = self.test(cost, now)
        if not wait:
            self.due = max(self.due, now) + cost * self._each
        return wait

    def remaining(self, now: float) -> tuple[int, float]:
        """How many units may be taken now, and the seconds in which no more should be."""
        left = max(0, int((self._room - max(0.0, self.due - now)) / self._each + _NEGLIGIBLE_SECONDS))
        return left, left * self._each if left else self.test(1, now)


def rate_fields(limits: Iterable[Limit], now: float, retry_after: float = math.inf) -> list[tuple[bytes, bytes]]:
    """The fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.

    The draft registers no unit `items`; the policy of that name has it all the same, since the default is requests.

    Args:
        limits: at least one.
        now: monotonic time.
        retry_after: of the response, which no window may exceed.
    """
    states = []
    for limit in limits:
        left, seconds = limit.remaining(now)
        states.append(f'"{limit.unit}";r={left};t={max(1, math.ceil(min(seconds, retry_after)))}')
    policies = ", ".join(limit.policy for limit in limits)
    return [(b"ratelimit-policy", policies.encode()), (b"ratelimit", ", ".join(states).encode())]
