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
        labels: the likeliest first; none with `strict` for what is unlike the training data.
        label_set: with `coverage`, labels that together cover the truth so often.
        unfamiliar: the share of inputs like the training data that are at least as unlike it (a p-value); None where
            the model does not tell.
    """

    labels: tuple[Label, ...]
    label_set: tuple[str, ...] | None = None
    unfamiliar: float | None = None

    @property
    def label(self) -> str | None:
        """The likeliest label; None if there is none."""
        return self.labels[0].label if self.labels else None

    @property
    def probability(self) -> float | None:
        """Of the likeliest label; None likewise."""
        return self.labels[0].probability if self.labels else None

    def _row(self) -> dict[str, Any]:
        more = {"label_set": self.label_set, "unfamiliar": self.unfamiliar}
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
    """The `labels` of a result, and where there are any its `label_set` and `unfamiliar`."""
    chosen: Sequence[str] | None = document.get("label_set")
    return {
        "labels": tuple(Label(**known(Label, label)) for label in document["labels"]),
        **({} if chosen is None else {"label_set": tuple(chosen)}),
        "unfamiliar": document.get("unfamiliar"),
    }
