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
    """Gives back what large requests have left behind, while nothing else is to be done."""

    def __init__(self) -> None:
        self._resident = 0
        self._next = 0.0

    def __call__(self) -> None:
        """Trims where it is worth it; called while the server is idle."""
        now = time.monotonic()
        if not _TRIMS or now < self._next:
            return
        self._next = now + _TRIM_SECONDS
        resident = _resident_bytes()
        if self._resident and resident < self._resident + _WORTH_BYTES:
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
