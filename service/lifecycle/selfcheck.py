"""The self-check: golden rows of every loaded version go through its live batcher again and again.

It finds what loading cannot: weights that were damaged in memory, and a device that no longer computes what it did.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from service.errors import Abandoned, DeadlineExceeded, Draining, InferenceFailed, Overloaded
from service.inference.admission import Reservation
from service.inference.call import BACKGROUND
from service.inference.golden import Golden, compare, read_golden
from service.inference.leases import Version
from service.inference.manifest import InvalidModel, check_files
from service.inference.observers import Observers, SelfChecked
from service.inference.repository import Repository
from service.inference.scope import CallScope
from service.inference.shapes import trim

logger = logging.getLogger(__name__)

# The share of the device's time that self-checks of all versions may take together. Half of what is promised: reading
# and comparing come on top.
_SHARE = 0.005
# Rows run in portions of about this many seconds, with pauses between them, so that no request waits long for one.
_PORTION_SECONDS = 0.005
_PAUSE_SECONDS = 0.25
# How often due checks are looked for.
_TICK_SECONDS = 1.0
# The longest wait for a portion.
_PATIENCE_SECONDS = 30.0

# Takes a version that answers wrongly out of service; gets the version and the reason.
TakeOut = Callable[[Version, str], Awaitable[None]]


class _Wrong(Exception):
    """A version does not give its golden answers; the message says by how much."""


@dataclass(slots=True)
class _State:
    """What is known of a version between its checks.

    Attributes:
        due: monotonic time at which it is checked, whether the server is busy or not.
        retry: monotonic time before which the version is not checked again.
        next_row: of the golden file.
        refused: whether the queue has refused a row since the last check.
        unreadable: whether it was logged that the golden file cannot be read.
        seconds: that the batches of the last check took.
    """

    due: float
    retry: float = 0.0
    next_row: int = 0
    refused: bool = False
    unreadable: bool = False
    seconds: float = 0.0


class SelfCheck:
    """Checks every loaded version in an idle moment, and at least once in a period.

    Args:
        repository: of the versions.
        period: seconds.
        take_out: takes a version out of service that was wrong twice in a row.
        observers: are told of each check.
    """

    def __init__(
        self, repository: Repository, period: float, take_out: TakeOut, observers: Observers | None = None
    ) -> None:
        self._repository = repository
        self._period = period
        self._take_out = take_out
        self._observers = observers or Observers()
        self._states: WeakKeyDictionary[Version, _State] = WeakKeyDictionary()

    async def run(self) -> None:
        """Checks until it is cancelled."""
        while True:
            await asyncio.sleep(min(_TICK_SECONDS, self._period / 8))
            for version in self._repository.versions:
                try:
                    if self._is_time(version, time.monotonic()):
                        await self.check(version)
                except Exception:  # whatever is wrong with one version, the others must be checked
                    logger.exception("the self-check of %s failed", version.label)

    async def check(self, version: Version) -> None:
        """Checks a version now, and takes it out if it is wrong twice in a row.

        A version that cannot be checked now, since the queue is full for example, stays due.
        """
        state = self._state(version, time.monotonic())
        rows = await self._read(version, state)
        if rows is None:
            state.due = time.monotonic() + self._period
            return
        state.seconds = 0.0
        wrong: _Wrong | None = None
        try:
            try:
                await self._replay(version, rows, state)
            except _Wrong as first:
                logger.warning("%s: a self-check found that %s; it is repeated", version.label, first)
                try:
                    await self._replay(version, rows, state)
                except _Wrong as second:
                    wrong = second
        except Overloaded as error:
            state.refused = True
            state.retry = time.monotonic() + (error.retry_after or _TICK_SECONDS)
            return
        except (Abandoned, DeadlineExceeded, Draining):
            # It is being closed, or hangs, which probes report. The others must not wait for it again at once.
            state.retry = time.monotonic() + self._period
            return
        state.due, state.refused = time.monotonic() + self._period, False
        state.next_row += len(next(iter(rows.inputs.values())))
        self._observers.publish(SelfChecked(version.batcher.label, state.seconds, wrong is not None))
        if wrong is not None:
            logger.error("%s is taken out of service: %s, in two self-checks in a row", version.label, wrong)
            await self._take_out(version, f"self-check: {wrong}")

    def _is_time(self, version: Version, now: float) -> bool:
        """Whether to check a version: in the second half of a period if the server is idle, at its end in any case."""
        state = self._state(version, now)
        if now < state.retry or now < state.due - self._period / 2:
            return False
        return now >= state.due or not any(
            other.batcher.depth or other.batcher.flow.in_flight for other in self._repository.versions
        )

    def _state(self, version: Version, now: float) -> _State:
        if version not in self._states:
            # Versions that were loaded together, and other processes, take turns.
            self._states[version] = _State(now + self._period * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        return self._states[version]

    async def _read(self, version: Version, state: _State) -> Golden | None:
        """The rows whose turn it is; None if the golden file cannot be read any more.

        That says nothing about what is in memory: an operator may have removed the folder. The arrays are not kept
        between checks. Reading them takes 0.5 ms, and 30 ms for a detector's.
        """
        count = self._rows(version)
        try:
            rows = await asyncio.to_thread(_read_rows, version, state.next_row, count)
        except InvalidModel as error:
            if not state.unreadable:
                logger.warning("%s is served without self-checks: %s", version.label, error)
            state.unreadable = True
            return None
        state.unreadable = False
        return rows

    def _rows(self, version: Version) -> int:
        """How many rows a check may run, so that all checks of a period stay below their share of the device."""
        share = _SHARE / max(1, len(self._repository.versions))
        return max(1, int(share * self._period / _seconds_per_row(version)))

    async def _replay(self, version: Version, rows: Golden, state: _State) -> None:
        """Runs rows through the batcher and compares the answers.

        Raises:
            _Wrong: they are not the golden ones.
        """
        items = list(_items(version, rows))
        portion = min(version.max_batch, max(1, int(_PORTION_SECONDS / _seconds_per_row(version))))
        pause = min(_PAUSE_SECONDS, self._period / 8 / len(items))
        answers: list[tuple[Any, ...]] = []
        for start in range(0, len(items), portion):
            if start:
                await asyncio.sleep(pause)
            forced = state.refused and time.monotonic() >= state.due + self._period
            try:
                answers += await self._run(version, items[start : start + portion], state, forced=forced)
            except InferenceFailed as error:
                raise _Wrong(f"it fails on {version.manifest.golden.file}: {error.detail}") from None
        problem = await asyncio.to_thread(_difference, version, rows, answers)
        if problem:
            raise _Wrong(problem)

    async def _run(self, version: Version, items: list[Any], state: _State, *, forced: bool) -> list[Any]:
        async with CallScope(owner=BACKGROUND, timeout=_PATIENCE_SECONDS) as call:
            if version.retired or version.batcher.admission.closed:
                raise Draining(f"{version.label} is being closed.")
            call.leases.append(self._repository.hold(version))
            try:
                if not forced:
                    return await call.infer(version, items)
                # A queue that has been too full for a whole period does not notice a few items more.
                call.rooms.append(room := Reservation(version.batcher.admission, call, len(items)))
                return await version.batcher.submit(items, room).future
            finally:
                state.seconds += call.inference_seconds


def _seconds_per_row(version: Version) -> float:
    return max(version.batcher.flow.seconds_per_item, 1e-6)


def _read_rows(version: Version, first: int, count: int) -> Golden:
    """Up to `count` rows of a version's golden file, from `first` on and then again from the beginning.

    Raises:
        InvalidModel: the file cannot be read, or is not the one that the version was loaded with.
    """
    check_files(version.folder, version.manifest, [version.manifest.golden.file])
    golden = read_golden(version.folder, version.manifest)
    total = len(next(iter(golden.inputs.values())))
    rows = np.arange(first, first + min(count, total)) % total
    inputs, answers = ({name: array[rows] for name, array in arrays.items()} for arrays in golden)
    return Golden(inputs, answers)


def _items(version: Version, rows: Golden) -> Iterator[Any]:
    """The inputs as `stacking` takes them, without padding."""
    specs = version.manifest.inputs
    for index in range(len(next(iter(rows.inputs.values())))):
        item = []
        for spec in specs:
            row = rows.inputs[spec.name][index]
            for axis, size in enumerate(spec.shape[1:]):
                if size < 0 and version.manifest.pads:
                    row = trim(row, axis)
            item.append(row)
        yield tuple(item) if len(item) > 1 else item[0]


def _difference(version: Version, rows: Golden, answers: list[tuple[Any, ...]]) -> str | None:
    """By how much answers differ from the golden ones; None if that is accepted."""
    golden = version.manifest.golden
    columns = (np.stack(column) for column in zip(*answers, strict=True))
    try:
        worst = compare(rows.answers, dict(zip(rows.answers, columns, strict=True)), golden)
    except ValueError as error:
        return str(error)
    if worst.acceptable:
        return None
    return f"output {worst.output} differs from {golden.file}'s by {worst.value:.2g}, more than {worst.accepted:.2g}"
