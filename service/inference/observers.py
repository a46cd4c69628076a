"""Observers: what they are told about calls and batches, after the fact and in bounded buffers."""

import asyncio
import logging
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from service.inference.leases import Version
    from service.inference.trace import Trace

logger = logging.getLogger(__name__)

# How long events wait before they are delivered together.
_DELAY_SECONDS = 0.05
# Events that wait; further ones are dropped. At 10,000 calls a second a delay brings a tenth of them.
_CAPACITY = 8192

DropReason = Literal["abandoned", "expired"]
# Values of the labels model, version, alias (empty without one) and variant.
Label = tuple[str, str, str, str]


@dataclass(slots=True)
class CallEnded:
    """A call that leased a model has ended.

    Attributes:
        labels: of each model, the first one first.
        owner: of the call.
        started: monotonic time.
        decode_times: seconds that each input took to become an item.
        queue_seconds: longest wait of an item for its batch.
        inference_seconds: longest run of a batch with one of the items.
        error: slug of the error that ended it, or the name of its class.
        inputs: the first items that went through the model, if an observer asks for tensors or the call has a shadow.
        outputs: their results; those of watched calls too.
        version: that answered a watched call; None for other calls.
        shadow: the version that gets a copy of the call, without a lease.
        asked: what the call was asked and what it answered (`service.capture.asked.Asked`), if its model has captures.
    """

    labels: Sequence[Label]
    owner: Hashable
    started: float
    decode_times: Sequence[float]
    queue_seconds: float
    inference_seconds: float
    error: str | None
    inputs: Sequence[Any] = ()
    outputs: Sequence[Any] = ()
    version: "Version | None" = None
    shadow: "Version | None" = None
    asked: Any = None


@dataclass(slots=True)
class BatchRan:
    """A batch has run.

    Attributes:
        label: of the model.
        queued: seconds that each item waited.
        started: monotonic time.
        seconds: that the batch took.
        traces: of the sampled calls with items in it.
        span: set by the observer that traces batches.
    """

    label: Label
    queued: list[float]
    started: float
    seconds: float
    traces: "tuple[Trace, ...]" = ()
    span: Any = None


@dataclass(slots=True)
class ItemsDropped:
    """Items left a queue without being run.

    Attributes:
        label: of the model.
        reason: why nobody waits for them any more.
        count: how many.
    """

    label: Label
    reason: DropReason
    count: int


@dataclass(slots=True)
class SelfChecked:
    """Golden rows have passed through the batcher of a loaded version.

    Attributes:
        label: of the model.
        seconds: that their batches took.
        failed: whether the answers were wrong, and the version is taken out of service.
    """

    label: Label
    seconds: float
    failed: bool


class Observer(Protocol):
    """Receives events on the event loop; slow work belongs on a thread of its own.

    Attributes:
        tensors: whether calls keep their items and results for it. It may change in `observe`, and holds for the calls
            that follow.
    """

    tensors: bool

    def observe(self, events: Sequence[Any]) -> None:
        """Receives events in order: `CallEnded`, `BatchRan`, `ItemsDropped`, `SelfChecked`, and the HTTP layer's
        `RequestEnded`.
        """


class Observers:
    """Delivers events to every observer in groups, off the path of the calls.

    Args:
        observers: that receive all events. One that raises is logged; the others still receive them.

    Attributes:
        tensors: whether an observer asks for items and results now.
        dropped: events for which there was no room.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)
        self._events: deque[Any] = deque()
        self.tensors = any(observer.tensors for observer in observers)
        self.dropped = 0

    def publish(self, event: Any) -> None:
        """Adds an event; called on the event loop."""
        events = self._events
        if len(events) >= _CAPACITY:
            self.dropped += 1
            return
        events.append(event)
        if len(events) == 1:
            asyncio.get_running_loop().call_later(_DELAY_SECONDS, self.flush)

    def flush(self) -> None:
        """Delivers what is waiting."""
        events, self._events = self._events, deque()
        if not events:
            return
        for observer in self._observers:
            try:
                observer.observe(events)
            except Exception:
                logger.exception("the observer %s failed", type(observer).__name__)
        self.tensors = any(observer.tensors for observer in self._observers)
