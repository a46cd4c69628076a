"""What is made of a version the first time that somebody asks for it."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from service.inference.repository import Version
from service.tasks.threads import Threads

Made = TypeVar("Made")


class Derived(Generic[Made]):
    """Made once for each version, on a thread, and kept for as long as the version; concurrent callers share the work.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[Version], Made]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[Version, asyncio.Future[Made]] = WeakKeyDictionary()

    async def of(self, version: Version, threads: Threads) -> Made:
        """What was made of a version."""
        if version not in self._made:
            made = self._made[version] = asyncio.ensure_future(threads.run(self._make, version))
            made.add_done_callback(partial(self._forget_failure, version))
        # A caller that hangs up must not cancel the work of the others.
        return await asyncio.shield(self._made[version])

    def _forget_failure(self, version: Version, made: asyncio.Future[Made]) -> None:
        if made.cancelled() or made.exception() is not None:
            del self._made[version]
