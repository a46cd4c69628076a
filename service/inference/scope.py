"""The scope of a call: who makes it, until when, what it holds on to, and what it took."""

import math
import time
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from service.errors import Abandoned, DeadlineExceeded
from service.inference import pipeline
from service.inference.observers import CallEnded, Observers
from service.inference.queue import BACKGROUND

if TYPE_CHECKING:
    from service.inference.admission import Reservation
    from service.inference.repository import Lease, Repository, Version


class CallScope:
    """Everything that one call needs; leaving it releases all that the call holds.

        async with CallScope(repository, owner="alice", timeout=30) as call:
            model = call.lease("classifier")
            rows = await call.infer(model, items)

    A call may go without progress for `timeout` seconds. A call that fits into a batch has that long in total; a longer
    one gets the same again each time a batch of its items is answered.

    Args:
        repository: lends the models.
        owner: whose turn in the queue the call takes: the name of an API key, or the client's connection. All calls
            without an owner share one turn.
        weight: size of the owner's turn in relation to others.
        timeout: seconds without progress.
        trace: the `traceparent` of the caller (W3C Trace Context), for observers; empty without one.
        observers: are told when the call has ended.
        on_slow: called once, on the event loop, if the call takes longer than about 0.1 s. The HTTP layer starts to
            watch for a disconnect then, which would cost a fast call more than it gains.

    Attributes:
        deadline: monotonic time at which the call has gone without progress for too long.
        fixed_deadline: whether progress leaves the deadline where it is.
        cancelled: whether nobody waits for the answer any more.
        leases: of the models in use.
        reservations: room in the queues of these models.
        started: monotonic time.
        decode_times: seconds that each input took to become an item.
        queue_seconds: longest wait of an item for its batch.
        inference_seconds: longest run of a batch with one of the items.
        inputs: items that went through a model, if an observer asks for tensors.
        outputs: their results.
        error: why the call failed.
    """

    __slots__ = (
        "_observers",
        "_on_slow",
        "_repository",
        "cancelled",
        "deadline",
        "decode_times",
        "error",
        "fixed_deadline",
        "inference_seconds",
        "inputs",
        "leases",
        "outputs",
        "owner",
        "queue_seconds",
        "reading",
        "reservations",
        "started",
        "timeout",
        "trace",
        "weight",
    )

    def __init__(
        self,
        repository: "Repository | None" = None,
        *,
        owner: Hashable = None,
        weight: float = 1.0,
        timeout: float = math.inf,
        trace: bytes = b"",
        observers: Observers | None = None,
        on_slow: Callable[[], None] | None = None,
    ) -> None:
        self._repository = repository
        self._observers = observers
        self._on_slow = on_slow
        self.owner = owner
        self.weight = weight
        self.timeout = timeout
        self.trace = trace
        self.started = time.monotonic()
        self.deadline = self.started + timeout
        self.cancelled = self.fixed_deadline = self.reading = False
        self.leases: list[Lease] = []
        self.reservations: list[Reservation] = []
        self.decode_times: list[float] = []
        self.queue_seconds = self.inference_seconds = 0.0
        self.inputs: Sequence[Any] = ()
        self.outputs: Sequence[Any] = ()
        self.error: BaseException | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.error = error
        self.close()

    def close(self) -> None:
        """Releases everything that the call holds, and hands it to the observers; idempotent."""
        self._on_slow = None  # breaks the reference cycle with the request
        for reservation in self.reservations:
            reservation.release()
        for lease in self.leases:
            lease.release()
        if self._observers is not None and self.leases:
            labels = tuple(lease.version.batcher.label for lease in self.leases)
            observers, self._observers = self._observers, None
            observers.publish(
                CallEnded(
                    labels, self.owner, self.trace, self.started, self.decode_times, self.queue_seconds,
                    self.inference_seconds, self.error, self.inputs, self.outputs,
                )
            )  # fmt: skip

    def lease(self, model: str) -> "Version":
        """The version that serves a model, which stays loaded until the scope is left.

        Args:
            model: `NAME` or `NAME/VERSION`.

        Raises:
            UnknownModel: it is not served.
        """
        if self._repository is None:
            raise TypeError("a call without a repository cannot lease a model")
        lease = self._repository.lease(model)
        self.leases.append(lease)
        return lease.version

    async def infer(self, version: "Version", items: Sequence[Any]) -> list[Any]:
        """Runs items through a model.

        Args:
            version: from `lease`.
            items: an array for each, or a tuple with an array for each input of the graph.

        Returns:
            For each item, in order, a tuple with its row of every output of the graph.

        Raises:
            Overloaded: there is no room for the call, or it could not be answered in time.
            DeadlineExceeded: the call went without progress for too long.
            Abandoned: the call was cancelled.
            InferenceFailed: the model failed on an item; `index` says which.
            Draining: the server is shutting down.
        """

        async def make(start: int, end: int) -> Sequence[Any]:
            return items[start:end]

        return await pipeline.infer_all(version, len(items), make, self)

    def run_in_background(self) -> None:
        """Moves what the call queues from now on into the turn of background work: late, but never starved."""
        self.owner = BACKGROUND

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
            raise DeadlineExceeded(
                f"No progress within {self.timeout:g} s: try again, or send fewer or smaller items in a request."
            )

    def record(self, items: Sequence[Any], results: Sequence[Any]) -> None:
        """Keeps tensors for observers, if one of them asks for tensors."""
        if self._observers is not None and self._observers.tensors:
            self.inputs = [*self.inputs, *items]
            self.outputs = [*self.outputs, *results]
