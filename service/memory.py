"""Settings of the memory allocator and of the garbage collector for a long-running server."""

import ctypes
import gc
import sys

# glibc's M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX. By default, glibc raises its thresholds up to 64 MB and
# keeps free memory in an arena per thread, so the memory of large requests would stay with the process.
_MALLOC_OPTIONS = {-1: 16_000_000, -3: 1_000_000, -8: 2}
_GLIBC = ctypes.CDLL(None) if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt") else None


def configure() -> None:
    """Makes the allocator return freed memory to the system; called before threads start."""
    if _GLIBC:
        for option, value in _MALLOC_OPTIONS.items():
            _GLIBC.mallopt(option, value)


def settle() -> None:
    """Frees garbage and exempts the remaining objects from collection; stops all threads for up to 0.1 s."""
    gc.enable()
    gc.unfreeze()
    gc.collect()
    # The collector need not walk the loaded models and modules between requests.
    gc.freeze()
    _trim()


def release() -> None:
    """Returns the memory of a version that has been closed; takes a few milliseconds.

    Walks only what has come since `settle`: walking everything stops all threads for up to 0.1 s. Older objects are
    freed as soon as nothing refers to them, but not if they are in a reference cycle.
    """
    gc.collect()
    _trim()


def _trim() -> None:
    if _GLIBC:
        _GLIBC.malloc_trim(0)
