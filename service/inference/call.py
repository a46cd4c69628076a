"""What a queue knows of a call: its owner, its deadline, whether it is over, and what it took so far."""

import math
import time
from collections.abc import Callable, Hashable
from typing import Protocol

from service.errors import Abandoned, DeadlineExceeded
from service.inference.trace import Trace

# The owner of explanations, self-checks, shadow traffic and other work that may be late.
BACKGROUND = "background work"


class Room(Protocol):
    """Room in a queue that a call holds."""

    def release(self) -> None:
        """Releases it; idempotent."""


class QueuedCall:
    """A call as the queues of models see it; `CallScope` is what callers use.

    Args:
        owner: whose turn in the queue the call takes. All calls without an owner share one turn.
        weight: size of the owner's turn in relation to others.
        timeout: seconds without progress.
        on_slow: called once, on the event loop, if the call takes longer than about 0.1 s.
        trace: of a call that is sampled.

    Attributes:
        deadline: monotonic time at which the call has gone without progress for too long.
        fixed_deadline: whether progress leaves the deadline where it is.
        cancelled: whether nobody waits for the answer any more.
        reading: whether the call counts as one whose large body is being read.
        rooms: in the queues of models.
        started: monotonic time.
        decode_times: seconds that each input took to become an item.
        queue_seconds: longest wait of an item for its batch.
        inference_seconds: longest run of a batch with one of the items.
    """

    __slots__ = (
        "_on_slow",
        "cancelled",
        "deadline",
        "decode_times",
        "fixed_deadline",
        "inference_seconds",
        "owner",
        "queue_seconds",
        "reading",
        "rooms",
        "started",
        "timeout",
        "trace",
        "weight",
    )

    def __init__(
        self,
        owner: Hashable = None,
        weight: float = 1.0,
        timeout: float = math.inf,
        on_slow: Callable[[], None] | None = None,
        trace: Trace | None = None,
    ) -> None:
        self._on_slow = on_slow
        self.trace = trace
        self.owner = owner
        self.weight = weight
        self.timeout = timeout
        self.started = time.monotonic()
        self.deadline = self.started + timeout
        self.cancelled = self.fixed_deadline = self.reading = False
        self.rooms: list[Room] = []
        self.decode_times: list[float] = []
        self.queue_seconds = self.inference_seconds = 0.0

    def close(self) -> None:
        """Releases the room that the call holds; idempotent."""
        self._on_slow = None  # breaks the reference cycle with the request
        for room in self.rooms:
            room.release()
        self.rooms.clear()  # a reservation refers to its call

    def run_in_background(self) -> None:
        """Moves what the call queues from now on into the turn of background work: late, but never starved."""
        self.owner = BACKGROUND

    def expire_after(self, seconds: float) -> None:
        """Sets a deadline from the beginning of the call, unless it has an earlier one; progress does not extend it."""
        self.deadline = min(self.deadline, self.started + seconds)
        self.fixed_deadline = True

    def progressed(self) -> None:
        """Extends the deadline, unless it is fixed."""
        if not self.fixed_deadline:
            self.deadline = time.monotonic() + self.timeout

    def slow(self) -> None:
        """Reports that the call takes long; only the first report counts."""
        if self._on_slow is not None:
            notify, self._on_slow = self._on_slow, None
            notify()

    def cancel(self) -> None:
        """Gives the call up; work for it stops within 50 ms."""
        self.cancelled = True

    def check(self) -> None:
        """Stops work for a call that is over.

        Raises:
            Abandoned: nobody waits for the answer.
            DeadlineExceeded: the deadline has passed.
        """
        if self.cancelled:
            raise Abandoned
        if time.monotonic() > self.deadline:
            limit = self.deadline - self.started if self.fixed_deadline else self.timeout
            raise DeadlineExceeded(
                f"No progress within {limit:.6g} s: try again, or send fewer or smaller items in a request."
            )
