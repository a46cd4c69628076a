"""What was answered lately, in bounded memory, so that feedback can be counted for answers that nobody has kept."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

# Requests, labels, numbers and boxes that are remembered, which take up to 40 MB.
_MOST_ANSWERS = 100_000
# Of a call.
_MOST_ITEMS = 64


class Answered(NamedTuple):
    """What a request was answered.

    Attributes:
        model: that answered, as `version`.
        key: name of the API key; empty without keys.
        time: Unix time of the answer.
        gists: of the first items, as `service.tasks.base.Truth` reads them.
        size: in memory, in labels, numbers and boxes.
    """

    model: str
    version: str
    key: str
    time: float
    gists: Sequence[Any]
    size: int


class Recent:
    """The last answers by the IDs of their requests."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Answered] = OrderedDict()
        self._size = 0

    def add(self, request: str, model: str, version: str, key: str, time: float, gists: Sequence[Any]) -> None:
        """Remembers a request, and forgets the oldest ones if there are too many."""
        kept = gists[:_MOST_ITEMS]
        size = sum(len(gist) if isinstance(gist, list) else 1 for gist in kept) + 1
        if (before := self._answers.pop(request, None)) is not None:  # clients choose IDs
            self._size -= before.size
        self._answers[request] = Answered(model, version, key, time, kept, size)
        self._size += size
        while self._size > _MOST_ANSWERS:
            self._size -= self._answers.popitem(last=False)[1].size

    def find(self, request: str) -> Answered | None:
        """What a request was answered; None if that is not known any more. Safe on any thread."""
        return self._answers.get(request)
