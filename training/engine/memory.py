"""Memory allocation of the training process."""

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


def keep_freed_memory() -> bool:
    """Tells glibc to reuse large freed blocks instead of returning them to the kernel.

    A training step on a CPU allocates the same activations of tens of megabytes over and over. By default each is
    mapped and unmapped, and the kernel zeroes every page again: nearly half of the time of a step (mallopt(3)).

    Returns:
        Whether this process uses glibc's allocator.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
    return all(
        mallopt(option, value) for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 1 << 28))
    )
