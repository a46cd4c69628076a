"""Looking through large bodies in slices: a search in bytes lets no other thread work until it ends."""

# Bytes that are looked at before other threads get to work; a millisecond or so.
SLICE = 1 << 20


def count_bytes(data: bytes, wanted: bytes, most: int) -> int:
    """How often `wanted` stands in `data`; counts no further than a little beyond `most`."""
    if len(data) <= SLICE:
        return data.count(wanted)
    count = 0
    for start in range(0, len(data), SLICE):
        # What begins in a slice may end in the next one.
        count += data.count(wanted, start, start + SLICE + len(wanted) - 1)
        if count > most:
            break
    return count
