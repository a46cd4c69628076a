"""Versions of a tiny classifier whose answers a test chooses, and the calls that go through them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from service.errors import UnknownModel
from service.inference.batcher import Batcher
from service.inference.call import BACKGROUND
from service.inference.observers import CallEnded
from service.inference.scheduler import Scheduler
from service.inference.scope import CallScope
from service.lifecycle.shadow import Shadows
from service.processes.board import Board
from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.registry import BUILT_IN
from tests.tiny import LABELS, manifest, solid

MANIFEST = ClassifierManifest.model_validate({**manifest(), "files": {}})
ITEMS = [solid(label) for label in LABELS]


def row(label: str, probability: float = 0.9) -> tuple[np.ndarray, ...]:
    """What the graph gives for an image of this label."""
    rest = (1 - probability) / (len(LABELS) - 1)
    return (np.array([probability if each == label else rest for each in LABELS], np.float32),)


def right(items: list[Any]) -> list[Any]:
    """The right label for each item."""
    return [row(LABELS[int(item.reshape(-1, 3).mean(0).argmax())]) for item in items]


def failing(items: list[Any]) -> list[Any]:
    """A candidate that fails on every input."""
    raise RuntimeError("no")


class Lender:
    """Versions of the model `classifier`, and how often they are leased now."""

    def __init__(self) -> None:
        self.versions: dict[str, Any] = {}
        self.leases = 0

    def lease(self, model: str, *_: Any) -> Any:
        _, _, number = model.partition("/")
        if number not in self.versions:
            raise UnknownModel(f"no {model}")
        self.leases += 1
        return SimpleNamespace(version=self.versions[number], release=self._returned)

    def _returned(self) -> None:
        self.leases -= 1


class Stage:
    """A default version `1` and a candidate `2` on one scheduler, and the shadows between them."""

    def __init__(self, candidate: Callable[[list[Any]], Sequence[Any]], board: Board | None = None) -> None:
        self.scheduler = Scheduler(1)
        self.lender = Lender()
        self.board = board or Board()
        self.told: list[Any] = []
        self.decided: list[tuple[str, bool, str]] = []
        self.default = self.add("1", right)
        self.candidate = self.add("2", candidate)
        self.shadows = Shadows(
            BUILT_IN.tasks,
            self.board,
            lambda: CallScope(self.lender, owner=BACKGROUND, timeout=30),  # type: ignore[arg-type]
            self.told.append,
            lambda *said: self.decided.append(said),
        )

    def add(self, number: str, run: Callable[[list[Any]], Sequence[Any]], **manifest: Any) -> Any:
        label = ("classifier", number, "", "reference")
        batcher = Batcher(run, max_batch=8, max_queue=1000, scheduler=self.scheduler, label=label)
        version = SimpleNamespace(
            name="classifier", version=number, label=f"classifier/{number}", batcher=batcher, max_batch=8,
            manifest=MANIFEST.model_copy(update=manifest), companion=None,
        )  # fmt: skip
        self.lender.versions[number] = version
        return version

    def ended(self, count: int = 1, number: str = "1", **changes: Any) -> CallEnded:
        """A call of some items that version `1` has answered, and `2` shadows."""
        items = [ITEMS[index % len(ITEMS)] for index in range(count)]
        event = CallEnded(
            labels=[("classifier", number, "", "reference")], owner=None, started=0.0, decode_times=[],
            queue_seconds=0.0, inference_seconds=0.0, error=None, inputs=items, outputs=right(items),
            version=self.lender.versions.get(number), shadow=self.candidate,
        )  # fmt: skip
        for name, value in changes.items():
            setattr(event, name, value)
        return event

    def counts(self) -> dict[str, int]:
        """What was told, in sum."""
        names = ("compared", "agreed", "failed", "dropped")
        return {name: sum(getattr(event, name) for event in self.told) for name in names}

    async def settled(self) -> dict[str, int]:
        """Waits until nothing is left to run; returns the counts."""
        async with asyncio.timeout(30):
            while self.shadows._running is not None and not self.shadows._running.done():
                await asyncio.wait([self.shadows._running])
        return self.counts()


async def until(condition: Callable[[], object]) -> None:
    """Waits for what threads, timers or other processes bring about."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


@asynccontextmanager
async def stage(
    candidate: Callable[[list[Any]], Sequence[Any]] = right, board: Board | None = None
) -> AsyncIterator[Stage]:
    made = Stage(candidate, board)
    try:
        yield made
    finally:
        await made.shadows.close()
        async with asyncio.timeout(30):
            for version in made.lender.versions.values():
                await version.batcher.close()
            await made.scheduler.close()
