"""What the routes below /v1/models/{name}/{version} share."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Generic, TypeVar
from weakref import WeakKeyDictionary

from fastapi import Path

from service.inference.repository import Version
from service.tasks.threads import Threads

Name = Annotated[str, Path(description="as in `GET /v1/models`", examples=["classifier"])]
VersionNumber = Annotated[str, Path(description="of the model, as in `GET /v1/models`", examples=["1"])]
Value = TypeVar("Value")


class VersionCache(Generic[Value]):
    """A value per version, computed on a thread at its first use, and kept as long as the version.

    Args:
        compute: called once for each version; concurrent callers share the call.
    """

    def __init__(self, compute: Callable[[Version], Value]) -> None:
        self._compute = compute
        self._values: WeakKeyDictionary[Version, asyncio.Future[Value]] = WeakKeyDictionary()

    async def get(self, version: Version, threads: Threads) -> Value:
        """The value of a version; raises what `compute` raised, which is called again the next time."""
        if version not in self._values:
            value = self._values[version] = asyncio.ensure_future(threads.run(self._compute, version))
            value.add_done_callback(partial(self._forget_failure, version))
        # A caller that hangs up must not cancel the work of the others.
        return await asyncio.shield(self._values[version])

    def _forget_failure(self, version: Version, value: asyncio.Future[Value]) -> None:
        if value.cancelled() or value.exception() is not None:
            del self._values[version]
