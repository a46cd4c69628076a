"""Which versions a policy permitted at which time."""

import math
import time
from dataclasses import dataclass


@dataclass(slots=True)
class _Span:
    begin: float
    end: float = math.inf


class Ledger:
    """Spans of time in which versions of models were permitted to answer calls that name none."""

    def __init__(self) -> None:
        self._spans: dict[str, dict[str, list[_Span]]] = {}

    def permit(self, model: str, version: str) -> None:
        """From now on a version may answer; called before the server is told."""
        spans = self._spans.setdefault(model, {}).setdefault(version, [])
        if not spans or spans[-1].end < math.inf:
            spans.append(_Span(time.perf_counter()))

    def only(self, model: str, version: str) -> None:
        """From now on no other version may answer; called when all processes of the server have said so."""
        self.permit(model, version)
        now = time.perf_counter()
        for other, spans in self._spans[model].items():
            if other != version:
                spans[-1].end = min(spans[-1].end, now)

    def permitted(self, model: str, version: str, begin: float, end: float) -> bool:
        """Whether a version was permitted at some moment of a request."""
        spans = self._spans.get(model, {}).get(version, ())
        return any(span.begin <= end and begin <= span.end for span in spans)
