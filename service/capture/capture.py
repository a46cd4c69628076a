"""Captures: an observer that keeps inputs and answers where a model's policy asks for it, and feedback on them."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from service.capture.asked import Asked
from service.capture.database import FILE
from service.capture.feedback import Feedbacks
from service.capture.recent import Recent
from service.capture.store import Store
from service.capture.strategies import Chooser, never_match
from service.capture.writer import Wanted, Writer, can_keep
from service.inference.leases import Version
from service.inference.observers import CallEnded
from service.inference.routing import Served
from service.observe.events import FeedbackGiven, ItemsCaptured
from service.policy.capture import Capture
from service.tasks.base import Operation, Results, Task, Truth

logger = logging.getLogger(__name__)

# Items of a call that are considered: strategies look at each answer on the event loop.
_MOST_CONSIDERED = 64


class Captures:
    """An observer that keeps what the policies ask for.

    Args:
        folder: of the database; made when it is needed.
        tasks: by name.
        max_pixels: that an image may declare.
        several: whether other processes serve the same models.
        publish: receives `ItemsCaptured` and `FeedbackGiven`.

    Attributes:
        models: whose calls are noted, since they have captures or feedback.
        feedbacks: takes feedback.
    """

    tensors = False

    def __init__(
        self,
        folder: Path,
        tasks: Mapping[str, Task],
        max_pixels: int,
        several: bool,
        publish: Callable[[Any], None],
    ) -> None:
        self.models: frozenset[str] = frozenset()
        self._choosers: dict[str, Chooser] = {}
        self._truths: dict[str, Truth | None] = {}
        self._folder = folder
        self._tasks = tasks
        self._publish = publish
        self._recent = Recent()
        self.feedbacks = Feedbacks(folder, self._recent, self._truth_of, several, publish)
        self._writer = Writer(folder, max_pixels, self._tell, self._match if several else None)
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
        self.models = frozenset(policies).union(name for name, each in served.items() if each.policy.feedback)
        self._truths = {
            name: make(each.default.manifest) if (make := self._tasks[each.default.manifest.task].truth) else None
            for name, each in served.items()
            if each.default is not None
        }
        for name in self._choosers.keys() - policies.keys():
            del self._choosers[name]
        for name, policy in policies.items():
            if name not in self._choosers or self._choosers[name].policy != policy:
                self._choosers[name] = Chooser(policy)
            if (default := served[name].default) is not None:
                self._warn(self._problems(policy, default))
        if self.models:
            self._writer.start()

    def _warn(self, problems: Sequence[str]) -> None:
        for problem in problems:
            if problem not in self._warned:
                self._warned.add(problem)
                logger.warning(problem)

    def _problems(self, policy: Capture, default: Version) -> list[str]:
        if not any(map(can_keep, self._tasks[default.manifest.task].operations)):
            return [f"nothing of {default.name} is captured: its inputs are neither images, texts nor rows"]
        return [f"capture of {default.label} never matches: {why}" for why in never_match(policy, default.manifest)]

    def ask(
        self,
        version: Version,
        operation: Operation,
        request: str,
        key: str | None,
        inputs: Sequence[Any],
        answer: Results,
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
            answer: the results.
            shadowed: whether a shadow gets the same items.
            keep: whether key and client permit it.

        Returns:
            None if the model has neither captures nor feedback.
        """
        if version.name not in self.models:
            return None
        chooser = self._choosers.get(version.name)
        wanted: dict[int, str] = {}
        kept: dict[int, Any] = {}
        if chooser is not None and keep and can_keep(operation):
            considered = range(min(len(answer.items), _MOST_CONSIDERED))
            wanted = {index: name for index in considered if (name := chooser.choose(answer.items[index])) is not None}
            later = shadowed and chooser.on_disagreement
            kept = {index: inputs[index] for index in (considered if later else wanted)}
        return Asked(
            request, key, operation, version.name, version.version, version.variant, version.manifest, time.time(),
            answer.items, answer.common, wanted, kept,
        )  # fmt: skip

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        if not self.models:
            return
        dropped: Counter[str] = Counter()
        for event in events:
            if type(event) is CallEnded and event.asked is not None:
                self._remember(event.asked)
                for index, strategy in event.asked.wanted.items():
                    dropped[event.asked.model] += not self._offer(event.asked, index, strategy)
        for model, count in (+dropped).items():
            self._publish(ItemsCaptured(model, dropped={"queue": count}))

    def disagreed(self, asked: Asked, index: int) -> None:
        """Keeps an item on which the shadow disagrees; called on the event loop."""
        chooser = self._choosers.get(asked.model)
        if chooser is None or index not in asked.inputs or index in asked.wanted:
            return
        wanted = chooser.on_disagreement and chooser.is_open("disagreement")
        if wanted and not self._offer(asked, index, "disagreement"):
            self._publish(ItemsCaptured(asked.model, dropped={"queue": 1}))

    def _remember(self, asked: Asked) -> None:
        truth = self._truths.get(asked.model)
        try:
            gists = [truth.gist(answer) if truth else None for answer in asked.answers[:_MOST_CONSIDERED]]
        except KeyError:  # another operation of the task has answers of another kind
            gists = [None] * min(len(asked.answers), _MOST_CONSIDERED)
        self._recent.add(asked.request, asked.model, asked.version, asked.key or "", asked.time, gists)

    def _offer(self, asked: Asked, index: int, strategy: str) -> bool:
        """Whether there is room for an item; one that the policy does not want any more needs none."""
        chooser = self._choosers.get(asked.model)
        if chooser is None:
            return True
        return self._writer.offer(Wanted(chooser, asked, index, strategy, asked.size(index)))

    async def close(self) -> None:
        """Writes what waits."""
        await asyncio.to_thread(self._writer.close)

    def _truth_of(self, model: str) -> Truth | None:
        return self._truths[model]

    def _match(self, store: Store) -> None:
        for event in self.feedbacks.match(store):
            self._tell(event)

    def _tell(self, event: ItemsCaptured | FeedbackGiven) -> None:
        """Publishes an event from the writer's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._publish, event)
