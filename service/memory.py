"""Settings of the memory allocator and of the garbage collector for a long-running server."""

import ctypes
import gc
import sys

# glibc's M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX. Without them, memory that large requests have used stays
# with the process: glibc raises its thresholds up to 64 MB, and keeps free memory in an arena for each of 16 threads.
_MALLOC_OPTIONS = {-1: 16_000_000, -3: 1_000_000, -8: 2}
_GLIBC = ctypes.CDLL(None) if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt") else None


def configure() -> None:
    """Makes the allocator return freed memory to the system; called before threads start."""
    if _GLIBC:
        for option, value in _MALLOC_OPTIONS.items():
            _GLIBC.mallopt(option, value)


def settle() -> None:
    """Frees garbage and exempts what is left from collection; takes some tens of milliseconds."""
    gc.enable()
    gc.unfreeze()
    gc.collect()
    # What is loaded stays: the collector need not walk it between requests.
    gc.freeze()
    # A generation of the default size is filled by every tenth request or so.
    gc.set_threshold(10_000)
    if _GLIBC:
        _GLIBC.malloc_trim(0)
