"""A call's deadline, priority and cancellation."""

import math
import time
from collections.abc import Callable, Hashable

from service.errors import Abandoned, DeadlineExceeded


class Context:
    """The circumstances of one call, which goes through one model; what goes through another has one of its own.

    A call may go without progress for `timeout` seconds: one that fits into a batch has so long for everything, a
    longer one gets as much again each time a batch's worth of it is answered.

    Args:
        timeout: seconds.
        priority: lower goes first.
        owner: tells the callers apart: whoever is refused is known again by it; None where that does not matter.
        on_slow: called once, on the event loop, if the call takes longer than a tenth of a second or so; whoever
            made the call begins to watch its client then, which would cost a fast call more than it gains.

    Attributes:
        timeout: seconds that it may go without progress.
        priority: lower goes first.
        owner: see above.
        single: whether it is known to have one item, which does not wait behind the calls of many.
        fixed: whether the deadline holds for the whole call, whatever progress it makes.
        deadline: when the call has gone without progress for too long, on the monotonic clock.
        cancelled: whether nobody waits for the answer any more.
        reserved: items that the call was admitted with and has not submitted yet.
        admitted: whether there was room for it before its body was read.
        unread: items that room is kept for while its body comes.
        next_round: of the model's queue, in which further items of the call have their turn.
        decode_seconds: spent on turning what was sent into the model's inputs, over all items.
        queue_seconds: the longest wait of an item for its batch.
        inference_seconds: the longest run of a batch that held one of the items.
    """

    __slots__ = (
        "_on_slow",
        "admitted",
        "cancelled",
        "deadline",
        "decode_seconds",
        "fixed",
        "inference_seconds",
        "next_round",
        "owner",
        "priority",
        "queue_seconds",
        "reserved",
        "single",
        "timeout",
        "unread",
    )

    def __init__(
        self,
        timeout: float = math.inf,
        *,
        priority: int = 0,
        owner: Hashable = None,
        on_slow: Callable[[], None] | None = None,
    ) -> None:
        self.timeout = timeout
        self.priority = priority
        self.owner = owner
        self.deadline = time.monotonic() + timeout
        self.cancelled = self.fixed = self.single = self.admitted = False
        self.reserved = self.unread = 0
        self.next_round = 0
        self.decode_seconds = self.queue_seconds = self.inference_seconds = 0.0
        self._on_slow = on_slow

    def progressed(self) -> None:
        """Moves the deadline, unless it is fixed: some of the call's items were answered just now."""
        if not self.fixed:
            self.deadline = time.monotonic() + self.timeout

    def slow(self) -> None:
        """Says that the call takes long; only the first time counts."""
        if self._on_slow is not None:
            notify, self._on_slow = self._on_slow, None
            notify()

    def end(self) -> None:
        """The call has been answered; lets go of whoever made it, so that the two are no cycle of references."""
        self._on_slow = None

    def cancel(self) -> None:
        """Gives up the call, for nobody waits for the answer; whatever works for it notices within 50 ms."""
        self.cancelled = True

    def check(self) -> None:
        """Refuses to go on with a call that is over.

        Raises:
            Abandoned: nobody waits for the answer.
            DeadlineExceeded: the deadline has passed.
        """
        if self.cancelled:
            raise Abandoned
        if time.monotonic() > self.deadline:
            raise DeadlineExceeded(
                f"No progress within {self.timeout:g} s: try again, or send fewer or smaller items in a request."
            )
