"""Captures: an observer that keeps inputs and answers of models whose policy has the table `[capture]`."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.capture.asked import Asked
from service.capture.store import FILE
from service.capture.strategies import Chooser, never_match
from service.capture.writer import Wanted, Writer, can_keep
from service.inference.leases import Version
from service.inference.observers import CallEnded
from service.inference.routing import Served
from service.observe.events import ItemsCaptured
from service.tasks.base import Operation, Task

logger = logging.getLogger(__name__)

# Items of a call that are considered: strategies look at each answer on the event loop.
_MOST_CONSIDERED = 64


class Captures:
    """An observer that keeps what the policies ask for.

    Args:
        folder: of the database; made when the first item is kept.
        tasks: by name.
        max_pixels: that an image may declare.
        publish: receives `ItemsCaptured`.

    Attributes:
        choosers: by model; only of models with captures.
    """

    tensors = False

    def __init__(
        self,
        folder: Path,
        tasks: Mapping[str, Task],
        max_pixels: int,
        publish: Callable[[ItemsCaptured], None],
    ) -> None:
        self.choosers: dict[str, Chooser] = {}
        self._folder = folder
        self._tasks = tasks
        self._publish = publish
        self._writer = Writer(folder, max_pixels, self._tell)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warned: set[str] = set()

    def begin(self) -> None:
        """Starts to delete what has expired, if anything was ever kept; called on the event loop."""
        self._loop = asyncio.get_running_loop()
        if (self._folder / FILE).exists():
            self._writer.start()

    def update(self, served: Mapping[str, Served]) -> None:
        """Follows the policies in force; idempotent.

        Args:
            served: the models by name.
        """
        policies = {name: each.policy.capture for name, each in served.items() if each.policy.capture is not None}
        for name in self.choosers.keys() - policies.keys():
            del self.choosers[name]
        for name, policy in policies.items():
            if name not in self.choosers or self.choosers[name].policy != policy:
                self.choosers[name] = Chooser(policy)
                self._writer.start()
            default = served[name].default
            for problem in self._problems(self.choosers[name], default) if default is not None else ():
                if problem not in self._warned:
                    self._warned.add(problem)
                    logger.warning(problem)

    def _problems(self, chooser: Chooser, default: Version) -> list[str]:
        if not any(map(can_keep, self._tasks[default.manifest.task].operations)):
            return [f"nothing of {default.name} is captured: its inputs are neither images, texts nor rows"]
        return [
            f"capture of {default.label} never matches: {why}" for why in never_match(chooser.policy, default.manifest)
        ]

    def ask(
        self,
        version: Version,
        operation: Operation,
        request: str,
        key: str | None,
        inputs: Sequence[Any],
        answers: Sequence[dict[str, Any]],
        *,
        shadowed: bool,
        keep: bool,
    ) -> Asked | None:
        """What becomes `CallEnded.asked`: a call with the items of it that are kept.

        Args:
            version: that answered.
            operation: that was asked for.
            request: its ID.
            key: name of its API key.
            inputs: as they were sent.
            answers: the results.
            shadowed: whether a shadow gets the same items.
            keep: whether key and client permit it.

        Returns:
            None if the model has no captures.
        """
        chooser = self.choosers.get(version.name)
        if chooser is None:
            return None
        wanted: dict[int, str] = {}
        kept: dict[int, Any] = {}
        if keep and can_keep(operation):
            considered = range(min(len(answers), _MOST_CONSIDERED))
            wanted = {index: name for index in considered if (name := chooser.choose(answers[index])) is not None}
            later = shadowed and chooser.on_disagreement
            kept = {index: inputs[index] for index in (considered if later else wanted)}
        return Asked(
            request, key, operation, version.name, version.version, version.variant, version.manifest, answers, wanted,
            kept,
        )  # fmt: skip

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        if not self.choosers:
            return
        dropped: Counter[str] = Counter()
        for event in events:
            if type(event) is CallEnded and event.asked is not None:
                for index, strategy in event.asked.wanted.items():
                    dropped[event.asked.model] += not self._offer(event.asked, index, strategy)
        for model, count in (+dropped).items():
            self._publish(ItemsCaptured(model, dropped={"queue": count}))

    def disagreed(self, asked: Asked, index: int) -> None:
        """Keeps an item on which the shadow disagrees; called on the event loop."""
        chooser = self.choosers.get(asked.model)
        if chooser is None or index not in asked.inputs or index in asked.wanted:
            return
        if (
            chooser.on_disagreement
            and chooser.is_open("disagreement")
            and not self._offer(asked, index, "disagreement")
        ):
            self._publish(ItemsCaptured(asked.model, dropped={"queue": 1}))

    def _offer(self, asked: Asked, index: int, strategy: str) -> bool:
        """Whether there is room for an item; one that the policy does not want any more needs none."""
        chooser = self.choosers.get(asked.model)
        if chooser is None:
            return True
        return self._writer.offer(Wanted(chooser, asked, index, strategy, time.time(), asked.size(index)))

    async def close(self) -> None:
        """Writes what waits."""
        await asyncio.to_thread(self._writer.close)

    def _tell(self, event: ItemsCaptured) -> None:
        """Publishes an event from the writer's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._publish, event)
