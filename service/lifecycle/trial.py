"""One candidate that is tried beside the version that answers: what waits for it, and how its answers compare."""

import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from service.inference.leases import Version
from service.lifecycle.examples import Example, Examples
from service.lifecycle.figures import AgreementFigures
from service.lifecycle.statistics import wilson
from service.policy.policy import Promotion
from service.tasks.agreement import measure_between
from service.tasks.base import Comparison, Row, Task

logger = logging.getLogger(__name__)

# What waits for one candidate; more is dropped.
_MOST_ITEMS = 256
_MOST_BYTES = 32_000_000


class Pair(NamedTuple):
    """An item, and what the default version answered.

    Attributes:
        item: as the model takes it.
        row: of the default version.
        asked: of the call; see `CallEnded`.
        number: index of the item in the call.
    """

    item: Any
    row: Row
    asked: Any = None
    number: int = 0


class Trial:
    """A candidate that gets the inputs of another version.

    Neither version is kept in memory, so both can be replaced during the trial.

    Args:
        task: of the model.
        default: answers the calls.
        candidate: is compared with it.
        examples: keeps the inputs on which both differ most.

    Raises:
        Incomparable: their answers cannot be compared.

    Attributes:
        words: when answers agree.
        goal: when the candidate becomes the default; None if nobody asked for that.
        figures: of this process.
        failures: inputs in a row on which the candidate has failed.
        paused_until: monotonic time before which the candidate gets nothing.
        used: seconds of the device, as fair queuing counts them.
        seconds_to_compare: how long a comparison takes; None if that is not known.
        decided: whether to promote the candidate, and why; None as long as that is open.
    """

    def __init__(self, task: Task, default: Version, candidate: Version, examples: Examples) -> None:
        self.words, self._compare = measure_between(task, default.manifest, candidate.manifest)
        self.model = default.name
        self.default = default.version
        self.candidate = candidate.version
        self.goal: Promotion | None = None
        self.examples = examples
        self.figures = AgreementFigures()
        self.failures = 0
        self.paused_until = 0.0
        self.used = 0.0
        self.seconds_to_compare: float | None = None
        self.decided: tuple[bool, str] | None = None
        self._task = task
        self._manifests = default.manifest, candidate.manifest
        self._companion = default.companion
        self._waiting: deque[tuple[Pair, int]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def is_of(self, default: Version, candidate: Version) -> bool:
        """Whether this trial compares these versions."""
        return (self.model, self.default, self.candidate) == (default.name, default.version, candidate.version)

    def aim_at(self, goal: Promotion | None) -> None:
        """Sets the goal. Another one than before is decided anew."""
        if goal != self.goal:
            self.decided = None
        self.goal = goal

    def offer(self, items: Sequence[Any], rows: Sequence[Row], asked: Any = None) -> int:
        """Puts items of a call with the default's answers in line; returns how many found no room."""
        offered = min(len(items), len(rows))
        for number, (item, row) in enumerate(zip(items, rows, strict=False)):
            if len(self._waiting) >= _MOST_ITEMS:
                return offered - number
            size = _size(item) + _size(row) + (asked.size(number) if asked is not None else 0)
            if self._bytes + size > _MOST_BYTES:
                return offered - number
            self._waiting.append((Pair(_own(item), _own(row), asked, number), size))
            self._bytes += size
        return 0

    def take(self, count: int) -> list[Pair]:
        """The next items, at most `count`."""
        taken: list[Pair] = []
        while self._waiting and len(taken) < count:
            pair, size = self._waiting.popleft()
            self._bytes -= size
            taken.append(pair)
        return taken

    def clear(self) -> int:
        """Drops what waits; returns how much that was."""
        dropped = len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return dropped

    def compare(self, answered: Sequence[tuple[Pair, Row]]) -> list[Comparison | None]:
        """Compares rows of both; None for one that is no answer. Safe on any thread."""
        began = time.perf_counter()
        found = [self._compared(ours.row, theirs) for ours, theirs in answered]
        self.seconds_to_compare = (time.perf_counter() - began) / max(1, len(found))
        return found

    def _compared(self, ours: Row, theirs: Row) -> Comparison | None:
        try:
            comparison = self._compare(ours, theirs)
        except Exception:  # the graph of a candidate may give anything
            logger.debug("an answer of %s/%s cannot be compared", self.model, self.candidate, exc_info=True)
            return None
        return comparison if math.isfinite(comparison.difference) else None

    def record(self, comparisons: Sequence[Comparison | None]) -> tuple[int, int, int]:
        """Counts comparisons; returns how many were compared, agreed and failed."""
        now = time.time()
        before = self.figures.compared, self.figures.agreed
        for comparison in comparisons:
            if comparison is None:
                self.failures += 1
                self.figures.failed += 1
            else:
                self.failures = 0
                self.figures.add(*comparison, now)
        compared, agreed = self.figures.compared - before[0], self.figures.agreed - before[1]
        return compared, agreed, len(comparisons) - compared

    def keep(self, pairs: Sequence[tuple[Pair, Row, Comparison]]) -> None:
        """Keeps inputs as examples; takes milliseconds, so it belongs on a thread."""
        assert self._task.agreement is not None  # noqa: S101 - the versions could be compared
        write = self._task.agreement.result
        default, candidate = self._manifests
        for (item, ours, *_), theirs, comparison in pairs:
            try:
                sample = self._sample(item)
                answers = write(default, item, ours), write(candidate, item, theirs)
            except Exception:  # as in `compare`
                logger.debug("an input of %s cannot be shown", self.model, exc_info=True)
                continue
            if sample is not None:
                self.examples.add(Example(comparison.difference, comparison.label, *answers, sample))

    def _sample(self, item: Any) -> Any:
        manifest = self._manifests[0]
        parts = item if isinstance(item, tuple) else (item,)
        inputs = {spec.name: part[None] for spec, part in zip(manifest.inputs, parts, strict=True)}
        make = self._task.samples
        return next(iter(make(inputs, manifest, self._companion)), None) if make else None

    def document(self) -> dict[str, Any]:
        """What other processes need to know."""
        return {
            "default": self.default,
            "candidate": self.candidate,
            **self.figures.to_json(),
            "examples": self.examples.ids(),
        }

    def matching(self, documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those documents that are about the same versions: other processes may be behind."""
        return [each for each in documents if (each["default"], each["candidate"]) == (self.default, self.candidate)]


def decision(goal: Promotion, figures: AgreementFigures) -> tuple[bool, str] | None:
    """Whether to promote the candidate, and why; None as long as that is open.

    After `goal.after` inputs the candidate is promoted if the share of answers that agree is at least
    `goal.agreement`. An input on which it failed counts as one that disagrees. It is withdrawn earlier once the
    inputs that are left cannot change that.
    """
    judged = figures.compared + figures.failed
    disagreed = judged - figures.agreed
    wanted = goal.agreement - 1e-9  # 980 of 1000 are 0.98
    if judged < goal.after and goal.after - disagreed >= wanted * goal.after:
        return None
    value = figures.agreed / judged
    low, high = wilson(figures.agreed, judged)
    failed = f", and the candidate failed on {figures.failed}" if figures.failed else ""
    why = (
        f"the answers to {figures.agreed} of {judged} inputs agree{failed}: {value:.4f} (95 % interval {low:.4f} to "
        f"{high:.4f}), and {goal.agreement:g} after {goal.after} was asked for"
    )
    return judged >= goal.after and value >= wanted, why


def _size(value: Any) -> int:
    return sum(map(_size, value)) if isinstance(value, tuple) else int(value.nbytes)


def _own(value: Any) -> Any:
    """A copy of what is a view: the row of a batch would keep the whole batch in memory."""
    if isinstance(value, tuple):
        return tuple(map(_own, value))
    return value.copy() if isinstance(value, np.ndarray) and value.base is not None else value
