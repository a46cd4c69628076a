"""The classes of images, and labels in general."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from quartet import display
from quartet.answers.base import Answer, Document, ImageAnswer, ServedBy, known, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label, its index among the model's labels, and its calibrated probability."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, kw_only=True)
class Labelled(Answer):
    """An answer that is a choice of labels.

    Attributes:
        labels: the likeliest first.
        label_set: with `coverage`, labels that together cover the truth so often.
    """

    labels: tuple[Label, ...]
    label_set: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """The likeliest label."""
        return self.labels[0].label

    @property
    def probability(self) -> float:
        """Of the likeliest label."""
        return self.labels[0].probability

    def _row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"label": self.label, "probability": self.probability}
        return row if self.label_set is None else {**row, "label_set": self.label_set}

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
    """The `labels` of a result, and its `label_set` where there is one."""
    chosen: Sequence[str] | None = document.get("label_set")
    return {
        "labels": tuple(Label(**known(Label, label)) for label in document["labels"]),
        **({} if chosen is None else {"label_set": tuple(chosen)}),
    }
