"""How fast a graph runs on this machine, and with which batches: measured when it is loaded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from service.inference.cards import ManifestBase
from service.inference.golden import Golden
from service.inference.session import Session
from service.inference.shapes import Array, Shape

# On a CPU, batches that take much longer on one core gain nothing, and cost latency and memory.
_LONG_CPU_BATCH_SECONDS = 0.025
# A batch is timed this often, or until the timings add up to this many seconds.
_TIMINGS, _TIMING_SECONDS = 8, 0.02
# A batch that takes longer is timed once: its first run, which allocates memory, is not much slower than the others.
_ONCE_SECONDS = 0.01
# A model whose largest batch takes less than this runs on the event loop, which it does not delay noticeably. Passing
# the batch to a thread and back costs up to half of it.
INLINE_SECONDS = 0.0005
# The smallest speed-up for which a variant, which is less exact, is chosen; a smaller one may be noise.
WORTHWHILE = 1.1


@dataclass(frozen=True, slots=True)
class Performance:
    """How a graph is best run on this machine, and its speed then.

    Attributes:
        max_batch: its largest batch.
        seconds: for such a batch, on one core or on the GPU.
        alone: seconds for a batch of one there.
        inline: whether its batches run on the event loop.
    """

    max_batch: int
    seconds: float
    alone: float
    inline: bool = False

    @property
    def per_item(self) -> float:
        """Seconds per item in the largest batch."""
        return self.seconds / self.max_batch

    def is_worth(self, other: "Performance") -> bool:
        """Whether to run this instead of the other: clearly faster in large batches, and not slower alone."""
        return self.per_item * WORTHWHILE <= other.per_item and self.alone <= other.alone * WORTHWHILE


def measure(manifest: ManifestBase, session: Session, golden: Golden, max_batch: int) -> Performance:
    """Finds the best batch size for a graph, at most `max_batch`, and its speed then; warms up the session.

    The session is on a GPU, or single-threaded on a CPU.

    Raises:
        InvalidModel: the runtime cannot run such a batch.
    """
    on_cpu = session.device == "cpu"

    def shortest(batch: int, once: float) -> float:
        return _shortest(session, golden.batch(manifest, Shape(batch, manifest.longest)), batch, once)

    # An item that takes longer than the longest batch is a batch of its own; an exact timing would not change that.
    alone = shortest(1, once=2 * _LONG_CPU_BATCH_SECONDS)
    batch = min(max_batch, _worthwhile(alone)) if on_cpu else max_batch
    seconds = alone if batch == 1 else shortest(batch, once=_ONCE_SECONDS)
    return Performance(batch, seconds, alone, on_cpu and seconds < INLINE_SECONDS)


def _shortest(session: Session, inputs: Mapping[str, Array], batch: int, once: float) -> float:
    """Seconds for a batch: the least of a few timings, since every disturbance makes one longer.

    A first timing of `once` seconds or more is the only one.
    """
    times = [session.warm_up(inputs, batch)]
    while times[0] < once and (len(times) < 2 or (len(times) < _TIMINGS and sum(times) < _TIMING_SECONDS)):
        times.append(session.warm_up(inputs, batch))
    return min(times)


def _worthwhile(seconds: float) -> int:
    """The largest batch for a CPU, for items that take this long each.

    Sizes are powers of the square root of two (1, 2, 3, 4, 6, 8, 11, 16, 23, 32), so that every start of a model
    arrives at the same size.
    """
    return max(1, round(2 ** (round(2 * math.log2(_LONG_CPU_BATCH_SECONDS / seconds)) / 2)))
