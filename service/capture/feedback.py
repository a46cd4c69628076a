"""Feedback: what people say of answers, matched with the answers and scored."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from service.capture.database import FILE, Unusable, expiry
from service.capture.feedback_table import Feedback
from service.capture.recent import Answered, Recent
from service.capture.store import Store
from service.errors import Conflict, Overloaded
from service.observe.events import FeedbackGiven
from service.tasks.base import Truth

State = Literal["counted", "waiting", "unknown", "invalid"]
# Feedback is kept this long; the policy of captures says how long items are.
_DAYS = 90
# Feedback on an answer of another process waits this long for it.
_WAITING_SECONDS = 120.0
# Requests with feedback that may wait for the disk.
_MOST_REQUESTS = 16
_RETRY_SECONDS = 1.0
# Answers are known when the observers have been told, which happens every 50 ms.
_SETTLING_SECONDS = 0.15


@dataclass(frozen=True, slots=True)
class Said:
    """An entry of a request with feedback; it has either `right` or `truth`."""

    request: str
    index: int
    right: bool | None
    truth: Any

    @property
    def words(self) -> Mapping[str, Any]:
        """As it is stored."""
        return {"truth": self.truth} if self.right is None else {"right": self.right}


class Outcome(NamedTuple):
    """What became of an entry.

    Attributes:
        state: counted; waiting for another process that may know the answer; unknown, if no answer of this ID is known
            or another key has got it; or invalid.
        problem: of an invalid entry.
    """

    state: State
    problem: str | None = None


class Feedbacks:
    """Takes feedback.

    Args:
        folder: of the database.
        recent: the last answers of this process.
        truth_of: how answers of a model are scored, by its name; None if only right and wrong count. Raises KeyError if
            the model is not served.
        several: whether other processes may know answers that this one does not.
        publish: receives `FeedbackGiven`.
    """

    def __init__(
        self,
        folder: Path,
        recent: Recent,
        truth_of: Callable[[str], Truth | None],
        several: bool,
        publish: Callable[[FeedbackGiven], None],
    ) -> None:
        self._folder = folder
        self._recent = recent
        self._truth_of = truth_of
        self._several = several
        self._publish = publish
        self._turn = asyncio.Semaphore(1)
        self._requests = 0

    async def take(self, said: Sequence[Said], key: str, sees: Callable[[str], bool], any_key: bool) -> list[Outcome]:
        """Matches and counts feedback.

        Args:
            said: the entries.
            key: name of the API key; empty without keys.
            sees: whether the key may know of a model.
            any_key: whether it may speak of answers that another key has got.

        Returns:
            An outcome for each entry.

        Raises:
            Overloaded: too many requests wait for the disk.
            Conflict: the database cannot be used.
        """
        if self._requests >= _MOST_REQUESTS:
            raise Overloaded(
                "Other requests with feedback wait for the disk: try again later.", retry_after=_RETRY_SECONDS
            )
        self._requests += 1
        try:
            if any(self._recent.find(each.request) is None for each in said):
                await asyncio.sleep(_SETTLING_SECONDS)
            async with self._turn:
                outcomes, given = await asyncio.to_thread(self._take, said, key, sees, any_key)
        except Unusable as error:
            raise Conflict(f"Feedback cannot be kept: {error}.") from None
        finally:
            self._requests -= 1
        for event in given:
            self._publish(event)
        return outcomes

    def _take(
        self, said: Sequence[Said], key: str, sees: Callable[[str], bool], any_key: bool
    ) -> tuple[list[Outcome], list[FeedbackGiven]]:
        if not (self._folder / FILE).exists() and not any(self._recent.find(each.request) for each in said):
            return [Outcome("unknown") for _ in said], []  # no model has captures or feedback
        now, outcomes, found = time.time(), [], []
        with Store(self._folder, create=True) as store:
            room = store.room_for_waiting() if self._several else 0
            for each in said:
                waiting = Feedback(each.request, each.index, key, each.words, now, now + _WAITING_SECONDS)
                answered = self._find(store, each)
                if answered is None:
                    outcomes.append(Outcome("waiting" if room > 0 else "unknown"))
                    found += [waiting] if room > 0 else []
                    room -= 1
                elif not sees(answered.model) or not (any_key or answered.key == key):
                    outcomes.append(Outcome("unknown"))
                else:
                    try:
                        found.append(self._scored(waiting, answered))
                        outcomes.append(Outcome("counted"))
                    except KeyError:
                        outcomes.append(Outcome("unknown"))
                    except ValueError as error:
                        outcomes.append(Outcome("invalid", str(error)))
            store.add_feedback(found)
        return outcomes, _counted(found)

    def match(self, store: Store) -> list[FeedbackGiven]:
        """Counts what waits in the database for an answer that this process knows; called on the writer's thread."""
        found = []
        for waiting in store.waiting_feedback(lambda request: self._recent.find(request) is not None):
            answered = self._recent.find(waiting.request)
            if answered is not None and answered.key == waiting.key and waiting.index < len(answered.gists):
                try:
                    found.append(self._scored(waiting, answered))
                except (KeyError, ValueError):  # nobody waits for the reason any more
                    continue
        if found:
            store.add_feedback(found)
        return _counted(found)

    def _find(self, store: Store, said: Said) -> Answered | None:
        """The answer of an item; its gist is the only one, or at the item's index."""
        answered = self._recent.find(said.request)
        if answered is not None and said.index < len(answered.gists):
            return answered
        item = store.find(said.request, said.index)
        if item is None:
            return None
        try:
            truth = self._truth_of(item.model)
        except KeyError:
            return None
        gists = [None] * said.index + [truth.gist(dict(item.answer)) if truth else None]
        return Answered(item.model, item.version, item.key or "", item.time, gists, 0)

    def _scored(self, feedback: Feedback, answered: Answered) -> Feedback:
        """Feedback with its score.

        Raises:
            KeyError: the model is not served any more.
            ValueError: the truth is not of the model's kind.
        """
        truth, gist = self._truth_of(answered.model), answered.gists[feedback.index]
        known = replace(
            feedback,
            model=answered.model,
            version=answered.version,
            time=answered.time,
            expires=expiry(_DAYS, answered.time),
        )
        if "truth" in feedback.said:
            if truth is None:
                raise ValueError("answers of this model can only be right or wrong: send right, not truth")
            value = truth.read(feedback.said["truth"])
            points, weight = truth.score(gist, value)
            # The truth itself is stored once.
            return replace(known, said={}, truth=value, figure=truth.figure, points=points, weight=weight)
        right = bool(feedback.said["right"])
        figure = truth.figure if truth and truth.rated else "right"
        confirmed = truth.confirmed(gist) if truth and right and gist is not None else None
        return replace(known, truth=confirmed, figure=figure, points=float(right), weight=1.0)


def _counted(found: Sequence[Feedback]) -> list[FeedbackGiven]:
    """What metrics are told of feedback whose answer is known."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for each in found:
        if each.model is not None and each.version is not None and each.weight:
            whole = each.points == each.weight
            rated = each.figure in ("accuracy", "right")
            outcome = ("right" if whole else "wrong") if rated else "scored"
            counts[each.model, each.version, outcome] += 1
    return [FeedbackGiven(*labels, count) for labels, count in counts.items()]
