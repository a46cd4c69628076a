"""Memory that loading models leaves behind: given back, or exempted from garbage collection."""

import ctypes
import gc
import sys


def settle() -> None:
    """Frees what is of no more use, and exempts the rest from collection; takes a tenth of a second or so."""
    gc.unfreeze()
    gc.collect()
    # What was loaded stays: the collector need not walk it again and again between requests.
    gc.freeze()
    # What only loading needed goes back to the system; the C library would keep it for later (glibc alone can).
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
