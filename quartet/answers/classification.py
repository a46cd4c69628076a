"""The classes of images, and labels in general."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from quartet import display
from quartet.answers.base import Document, ImageAnswer, RatedAnswer, ServedBy, known, load, typicality_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label, its index among the model's labels, and its calibrated probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Labelled(RatedAnswer):
    """An answer that is a choice of labels.

    Attributes:
        labels: the most likely first; with `strict`, none for an item that is unlike the training data.
        label_set: with `coverage`, a set of labels that contains the true one with this probability.
    """

    labels: tuple[Label, ...]
    label_set: tuple[str, ...] | None = None

    @property
    def label(self) -> str | None:
        """The most likely label; None if there is none."""
        return self.labels[0].label if self.labels else None

    @property
    def probability(self) -> float | None:
        """Of the most likely label; None if there is none."""
        return self.labels[0].probability if self.labels else None

    def _row(self) -> dict[str, Any]:
        more = {"label_set": self.label_set, "typicality": self.typicality}
        row: dict[str, Any] = {"label": self.label, "probability": self.probability}
        return row | {name: value for name, value in more.items() if value is not None}

    def rows(self) -> list[dict[str, Any]]:
        return [{**self._row(), "model": self._model()}]

    def _bars(self) -> str:
        return display.bars((each.label, each.probability) for each in self.labels)


@dataclass(frozen=True, kw_only=True)
class Prediction(Labelled, ImageAnswer):
    """The class of an image."""

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result."""
        return cls(served_by=served_by, **labels_of(document), **more)

    def rows(self) -> list[dict[str, Any]]:
        return [{"name": self.name, **self._row(), "model": self._model()}]

    def _repr_html_(self) -> str:
        return (display.image(load(self.source), 160) if self.source else "") + self._bars()


def labels_of(document: Document) -> dict[str, Any]:
    """The `labels` of a result, its `typicality`, and its `label_set` if there is one."""
    chosen: Sequence[str] | None = document.get("label_set")
    return {
        "labels": tuple(Label(**known(Label, label)) for label in document["labels"]),
        **({} if chosen is None else {"label_set": tuple(chosen)}),
        "typicality": typicality_of(document),
    }
