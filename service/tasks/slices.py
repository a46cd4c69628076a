"""Searches in large bodies, in slices: `bytes.count` holds the GIL until it ends, up to 160 ms for 64 MB."""

# Bytes searched before other threads may run, about a millisecond.
SLICE = 1 << 20


def count_bytes(data: bytes, wanted: bytes, most: int) -> int:
    """The number of times that `wanted` occurs in `data`; stops at the first slice that exceeds `most`."""
    count = 0
    for start in range(0, len(data), SLICE):
        # An occurrence may begin in one slice and end in the next.
        count += data.count(wanted, start, start + SLICE + len(wanted) - 1)
        if count > most:
            break
    return count
