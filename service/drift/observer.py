"""An observer that counts the inputs and answers of all loaded versions and compares them with validation.

It may take half a percent of the event loop's time, and saves a second of what it does not use. So a quiet server looks
at every call, also in a burst, and a busy one at a sample. Which calls are looked at depends on the time alone, not on
what they hold.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.drift.distance import Bins
from service.drift.report import report
from service.drift.window import Counts, Window
from service.inference.call import BACKGROUND
from service.inference.leases import Version
from service.inference.observers import CallEnded
from service.processes.board import Board
from service.tasks.base import Statistics, Task
from service.tasks.histograms import ObservedManifest

logger = logging.getLogger(__name__)

# Items of a version that are looked at together.
_MOST_ITEMS = 64
# Its part of the event loop's time, and how much of that it saves.
_SHARE = 1 / 200
_SAVED_SECONDS = 1.0
_REPORT_SECONDS = 10.0

# A model and the number of a version.
Key = tuple[str, str]


class Watch:
    """A version with its window in this process.

    Args:
        manifest: of the version. Histograms of what its graph does not answer are left out: a variant may have no
            p-values.
        statistics: of its task.

    Attributes:
        bins: of the histograms that are compared.
        report: the last one, over all processes.
        changed: whether items have come since.
    """

    def __init__(self, manifest: Any, statistics: Statistics) -> None:
        found = {(each.part, each.name): (number, each) for number, each in enumerate(statistics.of(manifest))}
        kept = [each for each in manifest.histograms if (each.part, each.name) in found]
        self.manifest = manifest
        self.bins = [Bins(each, found[each.part, each.name][1].categories) for each in kept]
        self.window = Window(self.bins)
        self.report: dict[str, Any] | None = None
        self.changed = True
        self._wanted = [found[each.part, each.name][0] for each in kept]
        self._measure = statistics.measure

    def add(self, items: Sequence[Any], rows: Sequence[Any]) -> None:
        """Counts items and the rows that the graph gave for them."""
        values = self._measure(self.manifest, items, rows)
        self.window.add([values[index] for index in self._wanted], len(items))
        self.changed = True


class Drifts:
    """The observer.

    Args:
        tasks: by name.
        board: exchanges figures with the other processes.

    Attributes:
        tensors: whether it looks at calls now.
    """

    def __init__(self, tasks: Mapping[str, Task], board: Board) -> None:
        self.tensors = False
        self._tasks = tasks
        self._board = board
        self._watches: dict[Key, Watch] = {}
        self._left = _SAVED_SECONDS
        self._earned_until = time.monotonic()
        self._reporting: asyncio.Task[None] | None = None

    @property
    def reports(self) -> dict[Key, dict[str, Any]]:
        """The last report of each version that has histograms, a few seconds old."""
        return {key: watch.report for key, watch in self._watches.items() if watch.report is not None}

    def update(self, versions: Iterable[Version]) -> None:
        """Follows the versions that are loaded; idempotent. A window begins anew if its version is another one."""
        loaded = {(version.name, version.version): version.manifest for version in versions}
        for key in self._watches.keys() - loaded.keys():
            self._leave(key)
        for key, manifest in loaded.items():
            watch = self._watches.get(key)
            if watch is not None and watch.manifest == manifest:
                continue
            self._leave(key)
            if (made := self._watch(manifest)) is not None:
                self._watches[key] = made
        self.tensors = bool(self._watches)
        if self._watches and (self._reporting is None or self._reporting.done()):
            self._reporting = asyncio.get_running_loop().create_task(self._report())

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        now = time.monotonic()
        self._left = min(_SAVED_SECONDS, self._left + _SHARE * (now - self._earned_until))
        self._earned_until = now
        if self.tensors:
            began = time.thread_time()
            for key, (items, rows) in self._found(events).items():
                self._count(key, items, rows)
            # Processor time: on a busy machine, waiting for a CPU is not the observer's work.
            self._left -= time.thread_time() - began
        self.tensors = bool(self._watches) and self._left > 0

    async def state(self, model: str, version: str) -> dict[str, Any] | None:
        """The report of a version over all processes; None if it has no histograms."""
        watch = self._watches.get((model, version))
        if watch is None:
            return None
        documents = await self._board.read(_key((model, version)))
        sizes = [len(bins.reference) for bins in watch.bins]
        return report(watch.manifest, watch.bins, Counts.sum(sizes, map(Counts.from_json, documents)))

    async def close(self) -> None:
        """Ends all work."""
        for key in list(self._watches):
            self._leave(key)
        self.tensors = False
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)

    def _watch(self, manifest: Any) -> Watch | None:
        """None for a version without histograms."""
        statistics = self._tasks[manifest.task].statistics
        if statistics is None or not isinstance(manifest, ObservedManifest):
            return None
        watch = Watch(manifest, statistics)
        return watch if watch.bins else None

    def _found(self, events: Sequence[Any]) -> dict[Key, tuple[list[Any], list[Any]]]:
        """The items and rows of calls that clients made of one model."""
        found: dict[Key, tuple[list[Any], list[Any]]] = {}
        for event in events:
            # Variations of an input, which an explanation asks for, are background work.
            if type(event) is not CallEnded or event.error or event.owner == BACKGROUND or len(event.labels) != 1:
                continue
            key = event.labels[0][:2]
            if key not in self._watches:
                continue
            items, rows = found.setdefault(key, ([], []))
            room = min(_MOST_ITEMS - len(items), len(event.inputs), len(event.outputs))
            if room > 0:
                items += event.inputs[:room]
                rows += event.outputs[:room]
        return {key: both for key, both in found.items() if both[0]}

    def _count(self, key: Key, items: Sequence[Any], rows: Sequence[Any]) -> None:
        watch = self._watches[key]
        try:
            watch.add(items, rows)
        except Exception:  # the graph of another version may have given the rows
            logger.debug("inputs of %s/%s cannot be counted", *key, exc_info=True)
            return
        self._board.publish(_key(key), lambda: watch.window.counts().to_json())

    def _leave(self, key: Key) -> None:
        if self._watches.pop(key, None) is not None:
            self._board.remove(_key(key))

    async def _report(self) -> None:
        """Makes the reports of all versions, and says what begins and ends to drift."""
        while self._watches:
            await asyncio.sleep(_REPORT_SECONDS)
            for key, watch in list(self._watches.items()):
                if not watch.changed and not self._board.shared:  # an idle server does nothing
                    continue
                watch.changed = False
                try:
                    await self._renew(key, watch)
                except Exception:
                    logger.exception("the drift of %s/%s is not known", *key)

    async def _renew(self, key: Key, watch: Watch) -> None:
        before, watch.report = watch.report, await self.state(*key)
        drifted, former = (set((each or {}).get("drifted") or ()) for each in (watch.report, before))
        if drifted - former:
            logger.warning("%s/%s: %s differ from validation: see /v1/models/%s/drift", *key, _and(drifted), key[0])
        elif former - drifted:
            logger.info("%s/%s: %s no longer differ from validation", *key, _and(former - drifted))


def _and(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _key(key: Key) -> str:
    return f"drift of {'/'.join(key)}"
