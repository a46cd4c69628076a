"""What is made of a version the first time that somebody asks for it."""

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from service.inference.repository import Version
from service.tasks.workers import Workers

Made = TypeVar("Made")


class Derived(Generic[Made]):
    """Made once of each version, on a thread, and kept for as long as the version.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[Version], Made]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[Version, Made] = WeakKeyDictionary()

    async def of(self, version: Version, workers: Workers) -> Made:
        """What was made of a version."""
        if version not in self._made:
            self._made[version] = await workers.run(self._make, version)
        return self._made[version]
