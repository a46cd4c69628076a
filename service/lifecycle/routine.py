"""What a server does for its models by itself, again and again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from service.inference.repository import Repository
from service.lifecycle.admin import Administration
from service.lifecycle.watcher import Watcher

logger = logging.getLogger(__name__)

_SECONDS = 1.0


class Routine:
    """Ends the steps of canaries, and follows the models folder.

    Args:
        repository: serves the models.
        administration: changes policies.
        watcher: looks at the folder; None if nobody watches it.
    """

    def __init__(self, repository: Repository, administration: Administration, watcher: Watcher | None) -> None:
        self._repository = repository
        self._administration = administration
        self._watcher = watcher

    async def run(self) -> None:
        """Runs until it is cancelled. An error is logged, and the next turn tries again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(_SECONDS, self._advance))
            if self._watcher is not None:
                tasks.create_task(self._repeat(self._watcher.seconds, self._watch))

    async def _repeat(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                logger.exception("the models were not looked after; it is tried again in %g s", seconds)

    async def _advance(self) -> None:
        await self._administration.advance(time.time())

    async def _watch(self) -> None:
        if self._watcher is not None and await asyncio.to_thread(self._watcher.changed):
            await self._repository.load_all()
