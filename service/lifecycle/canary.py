"""Canaries: what a version on trial answers and how well it serves, beside the default version."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.errors import Overloaded, QuartetError
from service.inference.cards import ManifestBase
from service.inference.leases import Version
from service.inference.observers import CallEnded, Label
from service.inference.routing import Served
from service.lifecycle.figures import AnswerFigures
from service.lifecycle.judge import judge
from service.observe.events import AnswersCounted
from service.policy.policy import Canary
from service.processes.board import Board
from service.tasks.base import Agreement, Outcome, Task
from service.tasks.cards import FamiliarityCard

logger = logging.getLogger(__name__)

_JUDGE_SECONDS = 1.0
# Besides all figures since the canary began, those of this and the previous period are judged: a version that breaks
# after days would otherwise take days to stand out.
_PERIOD_SECONDS = 300
# Answers of a call that are counted.
_MOST_ROWS = 16
# Names of exceptions that say nothing about the version: the client has gone, or the server ends.
_NO_FAULT = {"Abandoned", "CancelledError", "GeneratorExit", "HTTPException", "not-ready"}


class Side:
    """The default version or the canary, with its figures in this process."""

    def __init__(self, version: Version, agreement: Agreement | None) -> None:
        self.version = version.version
        self.all = AnswerFigures()
        self.recent: dict[int, AnswerFigures] = {}
        self._manifest = version.manifest
        self._outcome = agreement.outcome if agreement else None
        self._level = _level(version.manifest)

    def count(self, event: CallEnded, failed: bool, told: AnswersCounted) -> None:
        """Counts a call, for others too in `told`."""
        period = int(time.time()) // _PERIOD_SECONDS
        if period not in self.recent:
            self.recent = {number: figures for number, figures in self.recent.items() if number == period - 1}
            self.recent[period] = AnswerFigures()
        seconds = event.queue_seconds + event.inference_seconds
        outcomes = [] if failed else self._outcomes(event.outputs[:_MOST_ROWS])
        unfamiliar = [each.p_value < self._level for each in outcomes if each.p_value is not None]
        for figures in (self.all, self.recent[period]):
            figures.requests += 1
            figures.rated += len(unfamiliar)
            figures.unfamiliar += sum(unfamiliar)
            if failed:
                figures.errors += 1
            else:
                figures.latency.add(seconds)
        for label, _ in outcomes:
            if label is not None:
                told.labels[self.all.labels.add(label)] += 1
        told.failed += failed
        told.rated += len(unfamiliar)
        told.unfamiliar += sum(unfamiliar)
        if not failed:
            told.seconds.append(seconds)

    def _outcomes(self, rows: Sequence[Any]) -> list[Outcome]:
        if self._outcome is None:
            return []
        try:
            return [self._outcome(self._manifest, row) for row in rows]
        except Exception:  # the graph of a canary may give anything
            logger.debug("answers of version %s cannot be counted", self.version, exc_info=True)
            return []

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        recent = [(period, figures.to_json()) for period, figures in self.recent.items()]
        return {"version": self.version, "all": self.all.to_json(), "recent": recent}


class Watch:
    """A canary beside the default version of its model.

    Attributes:
        policy: in force.
        share: of the calls, now.
        verdict: why the canary is withdrawn.
    """

    def __init__(self, task: Task, default: Version, canary: Version, policy: Canary) -> None:
        self.model = default.name
        self.sides = {"default": Side(default, task.agreement), "canary": Side(canary, task.agreement)}
        self.policy = policy
        self.share: Callable[[], float] = lambda: 0.0
        self.verdict: str | None = None

    @property
    def versions(self) -> tuple[str, str]:
        """The numbers of the default version and the canary."""
        return self.sides["default"].version, self.sides["canary"].version

    def to_json(self) -> dict[str, Any]:
        """As JSON types, for the other processes."""
        return {role: side.to_json() for role, side in self.sides.items()}


class Canaries:
    """An observer that counts the answers of canaries and default versions, and judges the canaries.

    Args:
        tasks: by name.
        board: exchanges figures with the other processes.
        publish: receives `AnswersCounted`.
        withdraw: is told to withdraw the canary of a model, and why; again each second until the policy has no such
            canary any more. Each process may do so.
    """

    tensors = False

    def __init__(
        self,
        tasks: Mapping[str, Task],
        board: Board,
        publish: Callable[[AnswersCounted], None],
        withdraw: Callable[[str, str], None],
    ) -> None:
        self._tasks = tasks
        self._board = board
        self._publish = publish
        self._withdraw = withdraw
        self._watches: dict[str, Watch] = {}
        self._of_clients: frozenset[str] = frozenset()
        self._judging: asyncio.Task[None] | None = None

    def update(self, served: Mapping[str, Served]) -> None:
        """Follows the policies in force; idempotent. Figures begin anew if the default version or the canary changes.

        Args:
            served: the models by name.
        """
        self._of_clients = frozenset(_slugs_of_clients(QuartetError))
        for model in self._watches.keys() - served.keys():
            self._leave(model)
        for model, each in served.items():
            default, canary, policy = each.default, each.canary, each.policy.canary
            if default is None or canary is None or policy is None or canary is default:
                self._leave(model)
                continue
            watch = self._watches.get(model)
            if watch is None or watch.versions != (default.version, canary.version):
                self._leave(model)
                watch = self._watches[model] = Watch(self._tasks[default.manifest.task], default, canary, policy)
            if watch.policy.withdraw != policy.withdraw:
                watch.verdict = None
            watch.policy = policy
            watch.share = _share_of(each, canary)
        if self._watches and (self._judging is None or self._judging.done()):
            self._judging = asyncio.get_running_loop().create_task(self._judge())

    def observe(self, events: Sequence[Any]) -> None:
        """See `service.inference.observers.Observer`."""
        if not self._watches:
            return
        told: dict[Label, AnswersCounted] = {}
        for event in events:
            if type(event) is CallEnded and event.version is not None:
                self._count(event, told)
        for counted in told.values():
            self._publish(counted)
        for model in {label[0] for label in told}:
            self._board.publish(_key(model), self._watches[model].to_json)

    async def state(self, model: str) -> dict[str, Any] | None:
        """The figures of a model's canary and default version, over all processes; None if it has no canary."""
        watch = self._watches.get(model)
        if watch is None:
            return None
        documents = await self._documents(watch)
        return {
            "share": watch.share(),
            "versions": [
                {"version": side.version, "role": role, **_figures(documents, role).summary()}
                for role, side in watch.sides.items()
            ],
            "waits_for": _lacking(watch, documents) if watch.policy.stage(time.time()).done else None,
            "verdict": watch.verdict,
        }

    async def waits_for(self, model: str) -> str | None:
        """Why the canary of a model does not become the default yet, though its last step has ended; None if it may.

        A canary that nobody has called has proved nothing.
        """
        watch = self._watches.get(model)
        if watch is None:
            return "a default version that it can be compared with"
        return _lacking(watch, await self._documents(watch))

    def close(self) -> None:
        """Ends all work."""
        for model in list(self._watches):
            self._leave(model)
        if self._judging is not None:
            self._judging.cancel()
            self._judging = None

    def _count(self, event: CallEnded, told: dict[Label, AnswersCounted]) -> None:
        label = event.labels[0]
        watch = self._watches.get(label[0])
        # Inputs that were refused say nothing about the version.
        if watch is None or event.error in _NO_FAULT or event.error in self._of_clients:
            return
        for side in watch.sides.values():
            if side.version == label[1]:
                if label not in told:
                    told[label] = AnswersCounted(label, labels=Counter())
                side.count(event, event.error is not None, told[label])

    def _leave(self, model: str) -> None:
        if self._watches.pop(model, None) is not None:
            self._board.remove(_key(model))

    async def _documents(self, watch: Watch) -> list[dict[str, Any]]:
        """The figures of all processes that watch the same versions: others may be behind."""
        return [
            each
            for each in await self._board.read(_key(watch.model))
            if (each["default"]["version"], each["canary"]["version"]) == watch.versions
        ]

    async def _judge(self) -> None:
        """Judges all canaries; once a second as long as there are some, since other processes count too."""
        while self._watches:
            for watch in list(self._watches.values()):
                documents = await self._documents(watch) if watch.verdict is None else []
                if self._watches.get(watch.model) is not watch:
                    continue
                if watch.verdict is None:
                    watch.verdict = _verdict(watch, documents)
                    if watch.verdict is not None:
                        _, number = watch.versions
                        logger.warning("the canary %s/%s gets no more calls: %s", watch.model, number, watch.verdict)
                if watch.verdict is not None:
                    self._withdraw(watch.model, watch.verdict)
            await asyncio.sleep(_JUDGE_SECONDS)


def _verdict(watch: Watch, documents: Sequence[dict[str, Any]]) -> str | None:
    """Why a canary has to be withdrawn; None as long as it may stay."""
    limits = watch.policy.withdraw
    return judge(limits, _figures(documents, "default"), _figures(documents, "canary")) or judge(
        limits, _recent(documents, "default"), _recent(documents, "canary")
    )


def _lacking(watch: Watch, documents: Sequence[dict[str, Any]]) -> str | None:
    """What keeps a canary from becoming the default after its last step; None if nothing does."""
    if why := watch.verdict or _verdict(watch, documents):
        return f"its withdrawal: {why}"
    calls = watch.policy.withdraw.after - _figures(documents, "canary").requests
    return f"{calls} more calls of the canary" if calls > 0 else None


def _figures(documents: Sequence[dict[str, Any]], role: str) -> AnswerFigures:
    return AnswerFigures.of(document[role]["all"] for document in documents)


def _recent(documents: Sequence[dict[str, Any]], role: str) -> AnswerFigures:
    since = int(time.time()) // _PERIOD_SECONDS - 1
    return AnswerFigures.of(
        figures for document in documents for period, figures in document[role]["recent"] if period >= since
    )


def _level(manifest: ManifestBase) -> float:
    """The p-value below which an input is unfamiliar."""
    card = getattr(manifest, "familiarity", None)
    return card.level if isinstance(card, FamiliarityCard) else 0.0


def _share_of(served: Served, canary: Version) -> Callable[[], float]:
    return lambda: served.share(canary)


def _slugs_of_clients(error: type[QuartetError]) -> set[str]:
    """The slugs of errors that are the client's fault. A full queue is not: a slow version fills it."""
    own = {error.slug} if 400 <= error.status < 500 and not issubclass(error, Overloaded) else set()
    return own.union(*map(_slugs_of_clients, error.__subclasses__()))


def _key(model: str) -> str:
    return f"canary of {model}"
