"""How fast a graph runs on this machine, and with which batches."""

import math
from dataclasses import dataclass

from service.inference.cards import ManifestBase
from service.inference.session import Session

# A CPU gains nothing from batches that take much longer on one core; they would cost latency, and memory for good.
_LONG_CPU_BATCH_SECONDS = 0.025
# An item is timed so often, or until it has taken so long in all.
_TIMINGS, _TIMING_SECONDS = 8, 0.05
# A model that takes longer the first time is too slow to run on the event loop, so it is not measured again.
_PERHAPS_INLINE_SECONDS = 0.02
# A model whose largest batch takes less than this runs on the event loop: handing over to a thread and back costs up to
# half of it, and the loop can afford that.
INLINE_SECONDS = 0.0005
# A variant that gains less is less exact for nothing, and the difference may be chance.
WORTHWHILE = 1.1


@dataclass(frozen=True, slots=True)
class Performance:
    """How a graph is best run on this machine, and how fast it is then.

    Attributes:
        max_batch: its largest batch.
        seconds: what such a batch takes, on one core or on the GPU.
        alone: what a batch of one takes, likewise.
        inline: whether its batches run on the event loop itself.
    """

    max_batch: int
    seconds: float
    alone: float
    inline: bool = False

    @property
    def per_item(self) -> float:
        """Seconds that an item takes in its largest batch."""
        return self.seconds / self.max_batch

    def is_worth(self, other: "Performance") -> bool:
        """Whether to run this rather than the other: in large batches it is clearly faster, alone not slower."""
        return self.per_item * WORTHWHILE <= other.per_item and self.alone <= other.alone * WORTHWHILE


def measure(
    manifest: ManifestBase, session: Session, single: Session | None, max_batch: int, *, quiet: bool = True
) -> tuple[Performance, float]:
    """Finds the batch that is best for a graph, and how fast the graph is then.

    Args:
        manifest: of the version.
        session: on the device, which has run already.
        single: the same on one core, likewise; None where there is none.
        max_batch: the most items in a batch.
        quiet: whether nothing is served meanwhile; otherwise nothing is run that warming up would not run anyway.

    Returns:
        The performance, and the seconds that the first batches of that size took.

    Raises:
        InvalidModel: the runtime cannot run such a batch.
    """
    busy = single or session
    alone = _shortest(busy, manifest, _TIMINGS if quiet else 1)
    batch = min(max_batch, _worthwhile(alone)) if session.device == "cpu" else max_batch
    warm = largest = 0.0
    for each in filter(None, (session, single)):
        largest = each.warm_up(manifest, batch)
        warm += largest
    if quiet and largest < _PERHAPS_INLINE_SECONDS:
        # The shortest of some: the first one allocates, and a disturbed one says nothing about the model.
        largest = min(busy.warm_up(manifest, batch) for _ in range(3))
    inline = session.device == "cpu" and largest < INLINE_SECONDS
    return Performance(batch, largest, alone, inline), warm


def _shortest(session: Session, manifest: ManifestBase, timings: int) -> float:
    """Seconds for a single item: the least of some times, since whatever disturbs one makes it longer."""
    times: list[float] = []
    while len(times) < min(2, timings) or (len(times) < timings and sum(times) < _TIMING_SECONDS):
        times.append(session.warm_up(manifest, 1))
    return min(times)


def _worthwhile(seconds: float) -> int:
    """The largest batch for a CPU, of items that take so long each.

    In steps of the square root of two (1, 2, 3, 4, 6, 8, 11, 16, 23, 32), so that all starts of a model agree.
    """
    return max(1, round(2 ** (round(2 * math.log2(_LONG_CPU_BATCH_SECONDS / seconds)) / 2)))
