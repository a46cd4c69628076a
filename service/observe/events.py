"""What the HTTP layer and the trials of new versions tell observers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.inference.observers import Label
from service.inference.trace import Trace


@dataclass(slots=True)
class AnswersCompared:
    """Answers of a version were compared with those of its candidate.

    Attributes:
        model: the name.
        version: that answered the calls.
        candidate: the version that got the same inputs in the background.
        compared: how many answers were compared.
        agreed: those that agreed.
        failed: inputs on which the candidate failed.
        dropped: inputs for which there was no room or no time.
    """

    model: str
    version: str
    candidate: str
    compared: int = 0
    agreed: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass(slots=True)
class AnswersCounted:
    """Calls of a model that has a canary were counted.

    Attributes:
        label: of the version that answered.
        failed: calls that the version failed.
        labels: how often each label was the most likely.
        rated: answers with a p-value.
        unfamiliar: those whose p-value is below the version's level.
        seconds: in the queue and in the model, of each call that was answered.
    """

    label: Label
    failed: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    rated: int = 0
    unfamiliar: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(slots=True)
class RequestEnded:
    """A request has been answered, or its client has gone.

    Attributes:
        id: of the request.
        method: of HTTP.
        path: of the request.
        route: pattern of the route. Clients choose paths, so a path must not become the value of a label.
        facts: for its line in the log.
        status: of the answer; 0 without one.
        seconds: that it took.
        time: when it ended, in seconds since the epoch.
        trace: of a request that is sampled.
    """

    id: str
    method: str
    path: str
    route: str
    facts: Mapping[str, object]
    status: int
    seconds: float
    time: float
    trace: Trace | None = None


@dataclass(slots=True)
class ItemsCaptured:
    """Inputs were kept with their answers, or should have been.

    Attributes:
        model: the name.
        kept: items by strategy.
        dropped: items by the reason why they were not kept.
        bytes: of all items of the model; None if that has not changed.
    """

    model: str
    kept: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    bytes: int | None = None


@dataclass(slots=True)
class FeedbackGiven:
    """People have said what they think of answers.

    Attributes:
        model: the name.
        version: that answered.
        outcome: right, wrong, or scored for a figure that is no share.
        count: answers.
    """

    model: str
    version: str
    outcome: str
    count: int
