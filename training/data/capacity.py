"""Whether data that a training holds in memory fits there, before it is read into it."""

from quartet.offline.machine import read_memory_mb
from training.data.dataset import DataError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Bytes that the libraries and a network take without any data.
_LIBRARIES = 1_000_000_000


def available_memory() -> int:
    """Bytes that this process may use: those of the machine, of its container or of its own limits."""
    total, container = read_memory_mb()
    most = 10**6 * (container or total)
    if resource is not None:
        for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            soft, _ = resource.getrlimit(limit)
            most = most if soft == resource.RLIM_INFINITY else min(most, soft)
    return most


def check_fits(source: str, items: str, count: int, each: float) -> None:
    """Refuses `count` items (in the plural), each of `each` bytes in a training, if they do not fit into memory.

    Raises:
        DataError: says how many would fit.
    """
    room = max(0, available_memory() - _LIBRARIES)
    if count * each <= room:
        return
    fit = int(room / each)
    rounded = fit - fit % 10 ** max(0, len(str(fit)) - 2)
    raise DataError(
        f"{source}: {count:,} {items} take about {count * each / 1e9:.1f} GB in a training, and there are "
        f"{room / 1e9:.1f} GB for them: --limit {rounded} trains on so many of them, drawn at random."
    )
