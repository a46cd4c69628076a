"""What a sampled call notes for its trace: when it was admitted, waited and ran."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.inference.observers import BatchRan

# Batches of a call that are noted; a stream of thousands of items has hundreds.
_MOST_BATCHES = 32


@dataclass(slots=True, eq=False)
class Trace:
    """The trace of one request; times are monotonic.

    Attributes:
        span: of the request, begun by the tracer.
        started: when the request arrived.
        epoch: when the monotonic clock was 0, in nanoseconds since the epoch.
        admitted: when there was room for the first items; 0 before.
        batches: with items of the call, each with the time at which the first of these was queued.
    """

    span: Any
    started: float
    epoch: int
    admitted: float = 0.0
    batches: "list[tuple[float, BatchRan]]" = field(default_factory=list)

    def wall_clock(self, monotonic: float) -> int:
        """A time in nanoseconds since the epoch."""
        return self.epoch + int(monotonic * 1e9)

    def ran(self, submitted: float, batch: "BatchRan") -> None:
        """Notes a batch with an item of the call, once."""
        if (not self.batches or self.batches[-1][1] is not batch) and len(self.batches) < _MOST_BATCHES:
            self.batches.append((submitted, batch))
            batch.traces = (*batch.traces, self)
