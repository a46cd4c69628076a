"""Labelled items of any data, and what the answers of a published version to them are worth."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from quartet.offline.scoring.sources import Item
from service.errors import InvalidRequest, truncate
from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.sources import name_of
from training.export import calibration
from training.export.calibration import Ints
from training.export.figures import Interval, class_metrics, difference, label_intervals, macro_f1
from training.parser import did_you_mean

PartT = TypeVar("PartT")
# Of the labels of a model, in a message.
_LABELS_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure on new items, beside the figure of the same name in the version's card.

    Attributes:
        interval: 95 %.
        card: None if the card does not have it; neither need it have an interval.
        higher_is_better: False for an error.
        comparable: False if the expected value depends on the number of items.
    """

    name: str
    value: float
    interval: Interval
    card: float | None = None
    card_interval: Interval | None = None
    higher_is_better: bool = True
    comparable: bool = True

    @property
    def difference(self) -> Interval | None:
        """The 95 % interval of the figure less the card's; None if that is unknown."""
        if self.card is None or self.card_interval is None or not self.comparable:
            return None
        return difference(self.value, self.interval, self.card, self.card_interval)

    @property
    def verdict(self) -> str:
        """Whether the figure differs from the card's beyond the 95 % intervals; empty if that is unknown."""
        if self.difference is None or not np.isfinite(self.difference).all():
            return ""
        low, high = self.difference
        if low <= 0 <= high:
            return "no significant difference"
        return "better" if (low > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured.

    Attributes:
        figures: the main one first.
        classes: a row for each class that has items, the worst first.
        worst: a row for each of the worst items, the worst first.
        notes: further lines.
    """

    figures: tuple[Figure, ...]
    classes: Sequence[Mapping[str, Any]] = ()
    worst: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()


class Items(Protocol):
    """The items of one or several splits, one after the other.

    Attributes:
        kind: what they are, in the plural.
        splits: number of items by split.
        columns: that an input may be made from; None if they are not known by name.
        column: of the input, if it is a single one that the user or the training has chosen.
    """

    @property
    def kind(self) -> str: ...
    @property
    def splits(self) -> Mapping[str, int]: ...
    @property
    def columns(self) -> Sequence[str] | None: ...
    @property
    def column(self) -> str | None: ...

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        """Yields the items from an index on, with the columns of an input."""

    def where(self, index: int) -> str:
        """The file, line or row of an item."""

    def describe(self, index: int) -> Mapping[str, Any]:
        """Further cells of an item in a table of the worst ones."""


class Labelled(ABC):
    """Labelled items of any data, which `quartet.offline.scoring` can score, and figures of the answers.

    Args:
        manifest: of the version that is measured.
        source: what the user named.
        found: the items.
        inspection: how they were read.

    Attributes:
        options: of the operation.
        total: number of items.
        base: the folder that image paths are relative to.
        answered: the items that `take` was called for.
        problems: of items that are only found when they are answered.
    """

    options: tuple[tuple[str, str], ...] = ()
    base = Path()

    def __init__(self, manifest: Any, source: str, found: Items, inspection: Inspection) -> None:
        self.manifest, self.name, self.found, self.inspection = manifest, name_of(source), found, inspection
        self.splits, self.kind = found.splits, found.kind
        self.total = sum(found.splits.values())
        self.answered: list[int] = []
        self.problems = Problems()
        if not self.total:
            raise DataError(f"{source}: holds no labelled {found.kind}.")

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        """Yields the items from an index on, with the columns of an input."""
        return self.found.items(start, columns)

    @abstractmethod
    def take(self, index: int, answer: Mapping[str, Any]) -> None:
        """Keeps what the findings need of the result for an item; each item is taken once, in any order."""

    @abstractmethod
    def findings(self) -> Findings:
        """Measures the items that were taken, of which there are some."""

    def figure(self, name: str, value: float, interval: Interval, card: float | None, **more: Any) -> Figure:
        """A figure beside the card's, whose interval the manifest has."""
        intervals = self.manifest.intervals
        return Figure(
            name=name, value=value, interval=interval, card=card, card_interval=intervals.get(name), **more
        )  # fmt: skip


class LabelledClasses(Labelled):
    """Items with labels, for versions that answer probabilities.

    Args:
        truth: the index of each item's label among the model's, int64, shape (n,); the rest as for `Labelled`.
    """

    def __init__(
        self, manifest: Any, source: str, found: Items, inspection: Inspection, truth: Sequence[int] | Ints
    ) -> None:
        super().__init__(manifest, source, found, inspection)
        self.options = (("top_k", str(min(1000, len(manifest.labels)))),)
        self._truth: Ints = np.array(truth, dtype=np.int64)
        self._probabilities = np.zeros((self.total, len(manifest.labels)), dtype=np.float32)

    def take(self, index: int, answer: Mapping[str, Any]) -> None:
        for entry in answer["labels"]:
            self._probabilities[index, entry["index"]] = entry["probability"]

    def findings(self) -> Findings:
        manifest, labels = self.manifest, self.manifest.labels
        truth, probabilities = self._truth[self.answered], self._probabilities[self.answered]
        predicted, indices = probabilities.argmax(1), np.arange(len(labels))
        confusion = confusion_matrix(truth, predicted, labels=indices)
        intervals = label_intervals(probabilities, truth, confusion)
        measured = {
            "accuracy": float((predicted == truth).mean()),
            "macro_f1": macro_f1(confusion),
            "ece_after": calibration.expected_calibration_error(probabilities, truth),
        }
        recorded = {"ece_after": manifest.calibration and manifest.calibration.ece_after}
        figures = tuple(
            self.figure(
                name,
                value,
                intervals[name],
                recorded.get(name, getattr(manifest.metrics, name, None)),
                higher_is_better=name != "ece_after",
                comparable=name != "ece_after",  # chance alone makes it larger for fewer items
            )
            for name, value in measured.items()
        )
        return Findings(figures, self._classes(truth, predicted), self._worst(truth, predicted, probabilities),
                        self._notes(truth))  # fmt: skip

    def _classes(self, truth: Ints, predicted: Ints) -> list[dict[str, Any]]:
        metrics = self.manifest.metrics
        cards = {each.label: each for each in metrics.per_class} if metrics else {}
        wrong = truth != predicted
        taken_for = Counter(zip(truth[wrong].tolist(), predicted[wrong].tolist(), strict=True))
        rows = []
        for index, each in enumerate(class_metrics(self.manifest.labels, truth, predicted)):
            if not each.support:
                continue
            count, other = max(((n, b) for (a, b), n in taken_for.items() if a == index), default=(0, 0))
            card = cards.get(each.label)
            rows.append(
                {"class": each.label, "items": each.support, "recall": each.recall, "precision": each.precision,
                 "f1": each.f1, "f1 in the card": card.f1 if card and card.support else None,
                 "taken for": f"{self.manifest.labels[other]} ({count})" if count else ""}
            )  # fmt: skip
        return sorted(rows, key=lambda row: row["f1"])

    def _worst(self, truth: Ints, predicted: Ints, probabilities: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
        labels, confidence = self.manifest.labels, probabilities.max(1)
        wrong = np.flatnonzero(predicted != truth)
        return [
            {
                "item": self.found.where(self.answered[row]),
                "label": labels[truth[row]],
                "answer": labels[predicted[row]],
                "probability": round(float(confidence[row]), 4),
                **self.found.describe(self.answered[row]),
            }
            for row in wrong[np.argsort(-confidence[wrong], kind="stable")]
        ]

    def _notes(self, truth: Ints) -> list[str]:
        absent = [label for index, label in enumerate(self.manifest.labels) if not (truth == index).any()]
        return [f"no {self.kind} of the labels {listed(absent)}: nothing is measured of them"] if absent else []


@dataclass(slots=True)
class LabelIndex:
    """The index of a label among the model's; a label that the model does not have is a problem."""

    labels: Sequence[str]
    problems: Problems
    _known: dict[str, int] = field(init=False)
    _found: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._known = {label: index for index, label in enumerate(self.labels)}

    def find(self, label: object, where: str) -> int | None:
        """The index; None if it is missing or unknown, which `where` is noted for."""
        word = "" if label is None else str(label).strip()
        self._found.add(word)
        if not word:
            self.problems.add(where, "the label is missing")
        elif word not in self._known:
            self.problems.add(where, no_such_label(word, self.labels))
        return self._known.get(word)

    def check(self, source: str) -> None:
        """Raises DataError if there were labels, and none of them is one of the model's."""
        if self._found.isdisjoint(self._known):
            refuse_foreign(source, self._found - {""}, self.labels)


class ImageFiles(Protocol):
    """Encoded images, by index."""

    def read(self, index: int) -> bytes:
        """The file; raises OSError."""

    def where(self, index: int) -> str:
        """What to call it."""


class EncodedImages:
    """The encoded images of some splits, as files and indices; see `Items`."""

    kind = "images"
    columns: Sequence[str] | None = None
    column: str | None = None

    def __init__(self, splits: Mapping[str, tuple[ImageFiles, Sequence[int]]]) -> None:
        self.splits = {name: len(indices) for name, (_, indices) in splits.items()}
        self._items = [(files, index) for files, indices in splits.values() for index in indices]

    def items(self, start: int, columns: Sequence[str]) -> Iterator[Item]:
        """See `Items`."""
        (column,) = columns
        for row, (files, index) in enumerate(self._items[start:], start):
            try:
                yield Item(row, {column: files.read(index)})
            except OSError as error:
                yield Item(row, InvalidRequest(f"It cannot be read: {error.strerror}."))

    def where(self, index: int) -> str:
        """See `Items`."""
        files, row = self._items[index]
        return files.where(row)

    def describe(self, index: int) -> Mapping[str, Any]:  # noqa: ARG002
        """See `Items`."""
        return {}


def choose_splits(source: str, splits: Mapping[str, PartT], wanted: str | None) -> dict[str, PartT]:
    """All splits, or the one that is wanted; raises DataError if there is none."""
    if wanted is None:
        return dict(splits)
    if wanted not in splits:
        raise DataError(f"{source}: has no split {wanted!r}; it has {', '.join(splits)}.")
    return {wanted: splits[wanted]}


def refuse_foreign(source: str, found: Collection[str], labels: Sequence[str]) -> None:
    """Raises DataError if there are labels, all of which the model does not have."""
    if found:
        raise DataError(
            f"{source}: none of its labels ({listed(sorted(found))}) is one of the model's ({listed(labels)}), so "
            "nothing can be measured. Give data with labels of the model."
        )


def no_such_label(word: str, labels: Sequence[str]) -> str:
    """Says that a model does not have a label, and which one may be meant."""
    alike = [label for label in labels if label.casefold() == word.casefold()]
    hint = f": did you mean {alike[0]}?" if alike else did_you_mean(word, labels)
    return f"the model has no label {truncate(word)!r}{hint or f'; it has {listed(labels)}'}"


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - _LABELS_SHOWN:,} more" if len(names) > _LABELS_SHOWN else ""
    return ", ".join(map(truncate, names[:_LABELS_SHOWN])) + more
