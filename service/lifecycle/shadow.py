"""Shadows: candidates get the inputs of real calls in the background, and their answers are compared.

A shadow never delays or fails a call. Inputs come from events after the call has ended, wait in bounded buffers, and
are dropped when there is no room. On an idle device they run at once; on a busy one, small batches take at most a tenth
of the time.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.errors import Draining, InferenceFailed, Overloaded, QuartetError
from service.inference.leases import Version
from service.inference.observers import BatchRan, CallEnded
from service.inference.routing import Served
from service.inference.scope import CallScope
from service.lifecycle.examples import Examples, sample_of, show
from service.lifecycle.figures import AgreementFigures
from service.lifecycle.load import Load
from service.lifecycle.trial import Pair, Trial, decision
from service.observe.events import AnswersCompared
from service.policy.policy import Promotion
from service.processes.board import Board
from service.tasks.agreement import Incomparable
from service.tasks.base import Comparison, Row, Sample, Task

logger = logging.getLogger(__name__)

# Seconds of work in a batch on an idle device and on a busy one: how long a call may have to wait for it.
_IDLE_SECONDS, _BUSY_SECONDS = 0.01, 0.002
_MOST_ITEMS = 16
# On a busy device, the pause after a batch as a multiple of the batch.
_PAUSE = 9.0
# Comparisons that take longer run on a thread.
_LONG_COMPARISON = 0.0001
# After this many failures in a row a candidate gets a single input a second.
_FAILURES = 10
_FAILING_SECONDS = 1.0
_JUDGE_SECONDS = 1.0


class Shadows:
    """An observer that runs the candidates of all models.

    Args:
        tasks: by name.
        board: exchanges figures with the other processes.
        open_call: opens the scope of a call of background work, with a timeout and without observers.
        publish: receives `AnswersCompared`.
        decide: is told whether to promote the candidate of a model or to withdraw it, and why; again each second until
            the policy has no such shadow any more. Each process may do so.

    Attributes:
        disagreed: is told of an item on which the candidate disagrees: what its call asked, and the item's index.
    """

    tensors = False

    def __init__(
        self,
        tasks: Mapping[str, Task],
        board: Board,
        open_call: Callable[[], CallScope],
        publish: Callable[[AnswersCompared], None],
        decide: Callable[[str, bool, str], None],
    ) -> None:
        self._tasks = tasks
        self._board = board
        self._open_call = open_call
        self._publish = publish
        self._decide = decide
        self.disagreed: Callable[[Any, int], None] = lambda _asked, _index: None
        self._trials: dict[str, Trial] = {}
        self._problems: dict[str, tuple[str, str, str]] = {}
        self._load = Load()
        self._clock = 0.0  # `used` of the candidate that ran last; one that had nothing to do earns no credit
        self._running: asyncio.Task[None] | None = None
        self._judging: asyncio.Task[None] | None = None

    def update(self, served: Mapping[str, Served]) -> None:
        """Follows the policies in force; idempotent.

        Args:
            served: the models by name.
        """
        for model in {*self._trials, *self._problems} - served.keys():
            self.leave(model)
        for model, each in served.items():
            if each.default is not None and each.shadow is not None and each.policy.shadow is not None:
                self.follow(each.default, each.shadow, each.policy.shadow.promote)
            else:
                self.leave(model)

    def follow(self, default: Version, candidate: Version, goal: Promotion | None = None) -> None:
        """Compares a candidate with the default version of its model from now on; idempotent.

        The figures begin anew if one of the versions is another one than before. Versions that cannot be compared are
        logged and shown in `state`; `check_comparable` tells beforehand.
        """
        model = default.name
        trial = self._trials.get(model)
        if trial is None or not trial.is_of(default, candidate):
            self.leave(model)
            task = self._tasks[default.manifest.task]
            try:
                trial = Trial(task, default, candidate, Examples(self._board, model))
            except Incomparable as error:
                logger.warning("%s is no shadow of %s: %s", candidate.label, default.label, error.detail)
                self._problems[model] = default.version, candidate.version, error.detail
                return
            self._trials[model] = trial
        trial.aim_at(goal)
        if self._judging is None or self._judging.done():
            self._judging = asyncio.get_running_loop().create_task(self._judge())

    def leave(self, model: str) -> None:
        """Ends the comparison of a model and drops its figures; idempotent."""
        self._problems.pop(model, None)
        trial = self._trials.pop(model, None)
        if trial is not None:
            trial.clear()
            trial.examples.end()
            self._board.remove(_key(model))

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        if not self._trials:
            return
        candidates = {(trial.model, trial.candidate) for trial in self._trials.values()}
        dropped: Counter[str] = Counter()
        for event in events:
            if type(event) is CallEnded:
                if event.shadow is not None:
                    dropped[event.shadow.name] += self._offer(event, event.shadow.version)
            elif type(event) is BatchRan and event.label[:2] not in candidates:
                self._load.add(event.seconds)
        for model in +dropped:
            self._tell(self._trials[model], dropped=dropped[model])

    async def state(self, model: str, with_examples: bool = True) -> dict[str, Any] | None:
        """The figures of a model's shadow, over all processes; None if it has none.

        Args:
            model: its name.
            with_examples: reads the inputs on which the versions differ most; these are megabytes.
        """
        if (problem := self._problems.get(model)) is not None:
            default, candidate, why = problem
            versions = {"version": candidate, "against": default, "measure": None}
            return {**versions, **AgreementFigures().summary(), "examples": [], "verdict": why}
        trial = self._trials.get(model)
        if trial is None:
            return None
        documents = await self._documents(trial)
        ids = [(difference, identity) for document in documents for difference, identity in document["examples"]]
        examples = await asyncio.to_thread(show, self._board, model, ids) if with_examples else []
        return {
            "version": trial.candidate,
            "against": trial.default,
            "measure": trial.words,
            **AgreementFigures.of(documents).summary(),
            "examples": examples,
            "verdict": trial.decided[1] if trial.decided else None,
        }

    async def sample(self, model: str, identity: str) -> Sample | None:
        """The input of an example of `state`; None if there is none of this ID, or none any more."""
        if model not in self._trials:
            return None
        return await asyncio.to_thread(sample_of, self._board, model, identity)

    async def close(self) -> None:
        """Ends all work."""
        for model in list(self._trials):
            self.leave(model)
        work = [task for task in (self._judging, self._running) if task is not None]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def _offer(self, event: CallEnded, candidate: str) -> int:
        """Puts the inputs of a call in line; returns how many found no room."""
        model, version, *_ = event.labels[0]
        trial = self._trials.get(model)
        # The policy may have changed since the call began.
        if trial is None or (trial.default, trial.candidate) != (version, candidate):
            return 0
        dropped = trial.offer(event.inputs, event.outputs, event.asked)
        if len(trial) and (self._running is None or self._running.done()):
            self._running = asyncio.get_running_loop().create_task(self._run())
        return dropped

    async def _run(self) -> None:
        """Runs batches of all candidates in turn until nothing waits."""
        while waiting := [trial for trial in self._trials.values() if len(trial)]:
            now = time.monotonic()
            ready = [trial for trial in waiting if trial.paused_until <= now]
            if not ready:
                await asyncio.sleep(min(trial.paused_until for trial in waiting) - now)
                continue
            # The one that has used the device least, so that a slow model leaves others their share.
            trial = min(ready, key=lambda trial: trial.used)
            self._clock = trial.used = max(trial.used, self._clock)
            try:
                busy, seconds = await self._batch(trial)
            except Exception:  # whatever happens here must not end the shadows of other models
                logger.exception("the shadow %s/%s is paused", trial.model, trial.candidate)
                trial.paused_until = time.monotonic() + _FAILING_SECONDS
                continue
            trial.used += seconds
            await asyncio.sleep(_PAUSE * seconds if busy or self._load.busy else 0)

    async def _batch(self, trial: Trial) -> tuple[bool, float]:
        """Runs a batch and compares the answers; returns whether the device is busy, and the seconds that it took."""
        async with self._open_call() as call:
            try:
                version = call.lease(f"{trial.model}/{trial.candidate}")
            except QuartetError:  # it has been unloaded or taken out
                self._tell(trial, dropped=trial.clear())
                return False, 0.0
            busy = self._load.busy or version.batcher.others_busy
            pairs = trial.take(self._room(trial, version, busy))
            answers = await _infer(call, version, [pair.item for pair in pairs])
        await self._count(trial, pairs, answers)
        if trial.failures >= _FAILURES:
            trial.paused_until = time.monotonic() + _FAILING_SECONDS
        # Handing over and counting take the event loop's time, which is scarce too.
        return busy, time.monotonic() - call.started - call.queue_seconds

    def _room(self, trial: Trial, version: Version, busy: bool) -> int:
        """How many items the next batch has."""
        if trial.failures >= _FAILURES:
            return 1
        seconds = _BUSY_SECONDS if busy else _IDLE_SECONDS
        each = version.batcher.flow.seconds_per_item
        return max(1, min(_MOST_ITEMS, version.max_batch, int(seconds / each) if each else 1))

    async def _count(self, trial: Trial, pairs: Sequence[Pair], answers: Sequence[Any]) -> None:
        answered: list[tuple[Pair, Row]] = []
        failed = dropped = 0
        for pair, answer in zip(pairs, answers, strict=True):
            if not isinstance(answer, BaseException):
                answered.append((pair, answer))
            elif isinstance(answer, Overloaded | Draining):
                dropped += 1
                trial.paused_until = time.monotonic() + _FAILING_SECONDS
            else:
                failed += 1
                if not trial.figures.failed:
                    logger.warning("the shadow %s/%s failed on an input: %s", trial.model, trial.candidate, answer)
        comparisons: list[Comparison | None] = [None] * failed
        if answered:
            if trial.seconds_to_compare is None or trial.seconds_to_compare > _LONG_COMPARISON:
                comparisons += await asyncio.to_thread(trial.compare, answered)
            else:
                comparisons += trial.compare(answered)
        compared, agreed, failed = trial.record(comparisons)
        self._tell(trial, compared=compared, agreed=agreed, failed=failed, dropped=dropped)
        compared_pairs = list(zip(answered, comparisons[len(comparisons) - len(answered) :], strict=True))
        for (pair, _), comparison in compared_pairs:
            if pair.asked is not None and comparison is not None and not comparison.agrees:
                self.disagreed(pair.asked, pair.number)
        differing = [
            (*pair, comparison)
            for pair, comparison in compared_pairs
            if comparison is not None and trial.examples.wants(comparison.difference)
        ]
        if differing:
            await asyncio.to_thread(trial.keep, differing)

    def _tell(self, trial: Trial, **counts: int) -> None:
        """Publishes what was counted, and the figures for the other processes."""
        if any(counts.values()):
            trial.figures.dropped += counts.get("dropped", 0)
            self._publish(AnswersCompared(trial.model, trial.default, trial.candidate, **counts))
            if self._trials.get(trial.model) is trial:
                self._board.publish(_key(trial.model), trial.document)

    async def _documents(self, trial: Trial) -> list[dict[str, Any]]:
        return trial.matching(await self._board.read(_key(trial.model)))

    async def _judge(self) -> None:
        """Decides what can be decided; once a second as long as there is a shadow, since others count too."""
        while self._trials:
            for trial in list(self._trials.values()):
                open_goal = trial.goal if trial.decided is None else None
                documents = await self._documents(trial) if open_goal else []
                if self._trials.get(trial.model) is not trial or trial.goal is None:
                    continue
                if trial.decided is None and open_goal == trial.goal:
                    trial.decided = decision(trial.goal, AgreementFigures.of(documents))
                    if trial.decided is not None:
                        logger.info("%s/%s: %s", trial.model, trial.candidate, trial.decided[1])
                if trial.decided is not None:
                    self._decide(trial.model, *trial.decided)
            await asyncio.sleep(_JUDGE_SECONDS)


async def _infer(call: CallScope, version: Version, items: Sequence[Any]) -> Sequence[Row | BaseException]:
    """The row of each item, or why there is none."""
    try:
        return await call.infer(version, items)
    except InferenceFailed as error:
        if len(items) == 1:
            return [error]
    except QuartetError as error:
        return [error for _ in items]
    # Each on its own, so that the ones that fail leave the others alone.
    rows = await asyncio.gather(*(call.infer(version, [item]) for item in items), return_exceptions=True)
    return [row if isinstance(row, BaseException) else row[0] for row in rows]


def _key(model: str) -> str:
    return f"shadow of {model}"
