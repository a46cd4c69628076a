"""Running figures of answers in bounded memory, which can be merged with those of other processes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Self

from service.lifecycle.statistics import wilson

# Labels with counts of their own; the others share one.
_MOST_LABELS = 100
OTHERS = "(others)"
# A series has at most as many periods, which begin with a minute each and double.
_PERIODS = 60
_PERIOD_SECONDS = 60
# Buckets of a spread: each is this much wider than the one before. Values outside count at its ends.
_GROWTH = 1.1
_SMALLEST, _LARGEST = 1e-6, 1e6
_BUCKETS = math.ceil(math.log(_LARGEST / _SMALLEST) / math.log(_GROWTH))


class Spread:
    """How values that are not negative are spread: mean, largest, and quantiles with an error of at most 5 %."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.largest = 0.0
        self._buckets: dict[int, int] = {}

    def add(self, value: float) -> None:
        """Counts a finite value."""
        value = min(value, _LARGEST)
        self.count += 1
        self.total += value
        self.largest = max(self.largest, value)
        bucket = 0 if value <= _SMALLEST else min(_BUCKETS, 1 + int(math.log(value / _SMALLEST) / math.log(_GROWTH)))
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    @property
    def mean(self) -> float:
        """The mean; 0 without values."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """The value that this share of the values does not exceed; 0 without values."""
        wanted = max(1, math.ceil(min(share, 1.0) * self.count))
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                middle = _SMALLEST * _GROWTH ** (bucket - 0.5) if bucket else 0.0
                return min(middle, self.largest)
        return 0.0

    def merge(self, other: "Spread") -> None:
        """Adds the values of another."""
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def to_json(self) -> list[Any]:
        """As JSON types."""
        return [self.count, self.total, self.largest, [*self._buckets.items()]]

    @classmethod
    def from_json(cls, document: list[Any]) -> "Spread":
        """The inverse of `to_json`."""
        spread = cls()
        spread.count, spread.total, spread.largest, buckets = document
        spread._buckets = dict(buckets)
        return spread


class Shares:
    """Pairs of counts by label: how many there were, and how many of them counted."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}

    def add(self, label: str, total: int = 1, counted: int = 0) -> str:
        """Adds to a label, or to the one of all labels without room of their own; returns which."""
        if label not in self.counts and len(self.counts) >= _MOST_LABELS:
            label = OTHERS
        pair = self.counts.setdefault(label, [0, 0])
        pair[0] += total
        pair[1] += counted
        return label

    def merge(self, other: Mapping[str, list[int]]) -> None:
        """Adds the counts of another, the most frequent labels first."""
        for label, (total, counted) in sorted(other.items(), key=lambda item: -item[1][0]):
            self.add(label, total, counted)


class Series:
    """Pairs of counts over time, from the first to the last, in at most 60 periods of equal length."""

    def __init__(self) -> None:
        self.seconds = _PERIOD_SECONDS
        self.periods: dict[int, list[int]] = {}

    def add(self, time: float, total: int = 1, counted: int = 0) -> None:
        """Adds to the period of a time, in seconds since the epoch."""
        number = int(time) // self.seconds
        pair = self.periods.get(number)
        if pair is None:
            pair = self.periods[number] = [0, 0]
            while max(self.periods) - min(self.periods) >= _PERIODS:
                self._widen()
            pair = self.periods[int(time) // self.seconds]
        pair[0] += total
        pair[1] += counted

    def merge(self, seconds: int, periods: Iterable[tuple[int, list[int]]]) -> None:
        """Adds the counts of another."""
        while self.seconds < seconds:
            self._widen()
        for number, (total, counted) in periods:
            self.add(number * seconds, total, counted)

    def _widen(self) -> None:
        self.seconds *= 2
        periods, self.periods = self.periods, {}
        for number, (total, counted) in periods.items():
            pair = self.periods.setdefault(number // 2, [0, 0])
            pair[0] += total
            pair[1] += counted


class Figures(ABC):
    """Figures that can be written as JSON and added up."""

    @classmethod
    def of(cls, documents: Iterable[Mapping[str, Any]]) -> Self:
        """The sum of figures in the form of `to_json`."""
        figures = cls()
        for document in documents:
            figures.merge(document)
        return figures

    @abstractmethod
    def merge(self, document: Mapping[str, Any]) -> None:
        """Adds the figures of `to_json`."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """As JSON types."""


class AgreementFigures(Figures):
    """How the answers of a candidate compare with those of the default version.

    Attributes:
        compared: answers that were compared.
        agreed: those that agreed.
        failed: inputs on which the candidate failed.
        dropped: inputs for which there was no room or no time.
    """

    def __init__(self) -> None:
        self.compared = self.agreed = self.failed = self.dropped = 0
        self.difference = Spread()
        self.classes = Shares()
        self.series = Series()

    def add(self, agrees: bool, difference: float, label: str | None, time: float) -> None:
        """Counts a comparison; `time` is in seconds since the epoch."""
        self.compared += 1
        self.agreed += agrees
        self.difference.add(difference)
        if label is not None:
            self.classes.add(label, 1, agrees)
        self.series.add(time, 1, agrees)

    def merge(self, document: Mapping[str, Any]) -> None:
        for name in ("compared", "agreed", "failed", "dropped"):
            setattr(self, name, getattr(self, name) + document[name])
        self.difference.merge(Spread.from_json(document["difference"]))
        self.classes.merge(document["classes"])
        self.series.merge(document["seconds"], document["periods"])

    def to_json(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "agreed": self.agreed,
            "failed": self.failed,
            "dropped": self.dropped,
            "difference": self.difference.to_json(),
            "classes": self.classes.counts,
            "seconds": self.series.seconds,
            "periods": [*self.series.periods.items()],
        }

    def summary(self) -> dict[str, Any]:
        """As the API shows them; without comparisons some are None."""
        low, high = wilson(self.agreed, self.compared)
        classes = sorted(self.classes.counts.items(), key=lambda item: -item[1][0])
        return {
            "compared": self.compared,
            "dropped": self.dropped,
            "failed": self.failed,
            "agreement": {"value": self.agreed / self.compared, "low": low, "high": high} if self.compared else None,
            "difference": {
                "mean": self.difference.mean,
                "p95": self.difference.quantile(0.95),
                "max": self.difference.largest,
            }
            if self.compared
            else None,
            "classes": [_class(label, *pair) for label, pair in classes],
            "over_time": [
                {"time": number * self.series.seconds, "compared": compared, "agreed": agreed}
                for number, (compared, agreed) in sorted(self.series.periods.items())
            ],
        }


def _class(label: str, compared: int, agreed: int) -> dict[str, Any]:
    low, high = wilson(agreed, compared)
    return {"label": label, "compared": compared, "agreement": agreed / compared, "low": low, "high": high}


class AnswerFigures(Figures):
    """What a version answered, and how well it served.

    Attributes:
        requests: that the version answered or failed.
        errors: those that it failed.
        latency: seconds in the queue and in the model.
        labels: how often each label was the most likely.
        rated: answers with a p-value.
        unfamiliar: those whose p-value is below the version's level.
    """

    def __init__(self) -> None:
        self.requests = self.errors = self.rated = self.unfamiliar = 0
        self.latency = Spread()
        self.labels = Shares()

    def merge(self, document: Mapping[str, Any]) -> None:
        for name in ("requests", "errors", "rated", "unfamiliar"):
            setattr(self, name, getattr(self, name) + document[name])
        self.latency.merge(Spread.from_json(document["latency"]))
        self.labels.merge(document["labels"])

    def to_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": self.errors,
            "rated": self.rated,
            "unfamiliar": self.unfamiliar,
            "latency": self.latency.to_json(),
            "labels": self.labels.counts,
        }

    def summary(self) -> dict[str, Any]:
        """As the API shows them."""
        labelled = sum(total for total, _ in self.labels.counts.values())
        return {
            "requests": self.requests,
            "errors": self.errors,
            "error_share": self.errors / self.requests if self.requests else 0.0,
            "latency_ms": {f"p{share}": 1000 * self.latency.quantile(share / 100) for share in (50, 95, 99)},
            "labels": {
                label: total / labelled
                for label, (total, _) in sorted(self.labels.counts.items(), key=lambda item: -item[1][0])
            },
            "unfamiliar": self.unfamiliar / self.rated if self.rated else None,
        }
