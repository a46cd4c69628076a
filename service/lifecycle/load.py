"""How busy the device is with calls."""

import math
import time

# A device is busy if it works for calls for more than this share of the last second.
_BUSY_SHARE = 0.1
_WINDOW_SECONDS = 1.0


class Load:
    """The share of the last second for which the device has worked for calls, as a moving average."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._at = time.monotonic()

    def add(self, seconds: float) -> None:
        """Counts a batch."""
        self._seconds = self._left() + seconds

    @property
    def busy(self) -> bool:
        """Whether there are many calls."""
        return self._left() > _BUSY_SHARE * _WINDOW_SECONDS

    def _left(self) -> float:
        now = time.monotonic()
        self._seconds *= math.exp((self._at - now) / _WINDOW_SECONDS)
        self._at = now
        return self._seconds
