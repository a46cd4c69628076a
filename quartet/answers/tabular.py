"""Predictions from rows of a table."""

from dataclasses import dataclass
from typing import Any, Self

from quartet import display
from quartet.answers.base import Answer, Document, ServedBy
from quartet.answers.classification import Label, labels_of


@dataclass(frozen=True, kw_only=True)
class RowPrediction(Answer):
    """What was predicted of a row: labels, the likeliest first, or a number.

    Attributes:
        target: what is predicted.
        labels: where it is a class; none with `strict` for a row that is unlike the training data.
        value: where it is a number.
        unfamiliar: as of `Labelled`.
    """

    target: str
    labels: tuple[Label, ...] | None = None
    value: float | None = None
    unfamiliar: float | None = None

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result, to which the answer's `target` was added."""
        rest: dict[str, Any] = {name: document.get(name) for name in ("target", "value", "unfamiliar")}
        labels = labels_of(document)["labels"] if document.get("labels") is not None else None
        return cls(served_by=served_by, labels=labels, **rest, **more)

    @property
    def prediction(self) -> str | float | None:
        """The likeliest label, or the number."""
        return self.labels[0].label if self.labels else self.value

    def rows(self) -> list[dict[str, Any]]:
        row: dict[str, Any] = {self.target: self.prediction}
        if self.labels:
            row["probability"] = self.labels[0].probability
        if self.unfamiliar is not None:
            row["unfamiliar"] = self.unfamiliar
        return [{**row, "model": self._model()}]

    def _repr_html_(self) -> str:
        if self.labels is None:
            return display.table(self.rows())
        return display.bars((each.label, each.probability) for each in self.labels)
