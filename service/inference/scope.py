"""The scope of a call: one asynchronous context with everything that the call needs, released on every way out."""

import math
from collections.abc import AsyncGenerator, Callable, Collection, Hashable, Sequence
from types import TracebackType
from typing import Any, Self

from service.inference import pipeline
from service.inference.call import QueuedCall
from service.inference.leases import Lease, Version
from service.inference.observers import CallEnded, Observers
from service.inference.repository import Repository
from service.inference.routing import Position, anywhere
from service.inference.trace import Trace

# Items of a call that are kept for observers.
_MOST_KEPT = 64


class CallScope(QueuedCall):
    """A call, from its beginning to its end.

        async with CallScope(repository, owner="alice", timeout=30) as call:
            model = call.lease("classifier")
            rows = await call.infer(model, items)

    A call may go without progress for `timeout` seconds. A call that fits into a batch has that long in total; a longer
    one gets the same again each time a batch of its items is answered.

    Args:
        repository: lends the models.
        owner: the name of an API key, or the client's connection; see `QueuedCall`.
        weight: see `QueuedCall`.
        timeout: seconds without progress.
        trace: see `QueuedCall`.
        models: that the caller may use; None for all. Others are unknown to it.
        observers: are told when the call has ended.
        on_slow: see `QueuedCall`. The HTTP layer starts to watch for a disconnect then, which would cost a fast call
            more than it gains.

    Attributes:
        leases: of the models in use.
        inputs: the first items that went through a model, if an observer asks for tensors or the call has a shadow.
        outputs: their results; those of watched calls too.
        asked: see `CallEnded`.
        error: name of the error that ended the call. The exception itself would keep the call's frames, and with them
            its body, until the garbage collector runs.
    """

    __slots__ = ("_models", "_observers", "_repository", "asked", "error", "inputs", "leases", "outputs")

    def __init__(
        self,
        repository: Repository | None = None,
        *,
        owner: Hashable = None,
        weight: float = 1.0,
        timeout: float = math.inf,
        trace: Trace | None = None,
        models: Collection[str] | None = None,
        observers: Observers | None = None,
        on_slow: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(owner, weight, timeout, on_slow, trace)
        self._repository = repository
        self._models = models
        self._observers = observers
        self.leases: list[Lease] = []
        self.inputs: Sequence[Any] = ()
        self.outputs: Sequence[Any] = ()
        self.asked: Any = None
        self.error: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.fail(error)
        self.close()

    def fail(self, error: BaseException | None) -> None:
        """Notes the error that ended the call."""
        if error is not None:
            self.error = getattr(error, "slug", type(error).__name__)

    def close(self) -> None:
        """Releases everything that the call holds, and tells the observers; idempotent."""
        super().close()
        for lease in self.leases:
            lease.release()
        if self._observers is not None and self.leases:
            labels = [lease.version.batcher.label for lease in self.leases]
            observers, self._observers = self._observers, None
            first = self.leases[0]
            observers.publish(
                CallEnded(
                    labels, self.owner, self.started, self.decode_times, self.queue_seconds,
                    self.inference_seconds, self.error, self.inputs, self.outputs,
                    first.version if first.watched else None, first.shadow, self.asked,
                )
            )  # fmt: skip

    def lease(self, model: str, version: str | None = None, position: Position = anywhere) -> Version:
        """The version that serves a model, which stays loaded until the scope is left.

        Args:
            model: `NAME` or `NAME/VERSION`.
            version: a number or an alias, unless `model` states it.
            position: of the call among all calls; decides whether a canary answers.

        Raises:
            UnknownModel: it is not served.
            ModelBroken: no version can answer now.
        """
        if self._repository is None:
            raise TypeError("a call without a repository cannot lease a model")
        name = model.partition("/")[0]
        if self._models is not None and name not in self._models:
            raise self._repository.unknown(name)
        lease = self._repository.lease(model, version, position)
        self.leases.append(lease)
        return lease.version

    async def infer(self, version: Version, items: Sequence[Any]) -> list[Any]:
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

        return await self.infer_made(version, len(items), make)

    async def infer_made(self, version: Version, count: int, make: pipeline.Make) -> list[Any]:
        """Runs `count` items through a model that `make` makes a batch at a time; see `infer`."""
        return await pipeline.infer_all(version.batcher, count, make, self, self._record)

    def stream(self, version: Version, count: int, make: pipeline.Make) -> AsyncGenerator[list[Any], None]:
        """The results of `count` items, a batch at a time; see `infer_made`."""
        return pipeline.infer(version.batcher, count, make, self, self._record)

    @property
    def _record(self) -> pipeline.Record:
        """Keeps tensors for observers, if one of them asks for tensors, or for those of a watched call."""
        if self._observers is None or not self.leases:
            return None
        if self._observers.tensors or self.leases[0].shadow is not None:
            return self._keep
        return self._keep_outputs if self.leases[0].watched else None

    def _keep(self, items: Sequence[Any], results: Sequence[Any]) -> None:
        # Observers may have begun to ask for tensors during the call, and each input belongs to the output beside it.
        if len(self.inputs) == len(self.outputs):
            self.inputs = [*self.inputs, *items[: _MOST_KEPT - len(self.inputs)]]
        self._keep_outputs(items, results)

    def _keep_outputs(self, _items: Sequence[Any], results: Sequence[Any]) -> None:
        self.outputs = [*self.outputs, *results[: _MOST_KEPT - len(self.outputs)]]
