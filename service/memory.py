"""Memory that is of no more use: given back to the system, or exempted from garbage collection."""

import ctypes
import gc
import sys
import threading
import time
from pathlib import Path

# The C library keeps what was freed; so much more than before is worth a call that takes some milliseconds.
_WORTH_BYTES = 32_000_000
_TRIM_SECONDS = 5.0
# Likewise while requests are being answered, some of which may wait for it.
_WORTH_BYTES_BUSY = 96_000_000
_TRIM_SECONDS_BUSY = 20.0
# glibc alone can give memory back on demand.
_TRIMS = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def settle() -> None:
    """Frees what is of no more use, and exempts the rest from collection; takes a tenth of a second or so."""
    gc.unfreeze()
    gc.collect()
    # What was loaded stays: the collector need not walk it again and again between requests.
    gc.freeze()
    if _TRIMS:
        ctypes.CDLL(None).malloc_trim(0)


class Trimmer:
    """Gives back what large requests have left behind: while nothing else is to be done, or before it is too much."""

    def __init__(self) -> None:
        self._resident = 0
        self._next = 0.0

    def __call__(self, *, busy: bool) -> None:
        """Trims where it is worth it; called about once a second.

        Args:
            busy: whether requests are being answered.
        """
        now = time.monotonic()
        if not _TRIMS or now < self._next + (_TRIM_SECONDS_BUSY - _TRIM_SECONDS if busy else 0.0):
            return
        self._next = now + _TRIM_SECONDS
        resident = _resident_bytes()
        if self._resident and resident < self._resident + (_WORTH_BYTES_BUSY if busy else _WORTH_BYTES):
            return
        # The call lets other threads work meanwhile.
        threading.Thread(target=self._trim, name="trim", daemon=True).start()

    def _trim(self) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self._resident = _resident_bytes()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
