"""Predictions from rows of a table."""

from dataclasses import dataclass
from typing import Any, Self

from quartet import display
from quartet.answers.base import Document, RatedAnswer, ServedBy, typicality_of
from quartet.answers.classification import Label, labels_of


@dataclass(frozen=True, kw_only=True)
class RowPrediction(RatedAnswer):
    """The prediction for a row: labels, the most likely first, or a number.

    Attributes:
        target: the predicted column.
        labels: of a class; with `strict`, none for a row that is unlike the training data.
        value: of a number.
    """

    target: str
    labels: tuple[Label, ...] | None = None
    value: float | None = None

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result, to which the answer's `target` was added."""
        rest: dict[str, Any] = {name: document.get(name) for name in ("target", "value")}
        labels = labels_of(document)["labels"] if document.get("labels") is not None else None
        return cls(served_by=served_by, labels=labels, typicality=typicality_of(document), **rest, **more)

    @property
    def prediction(self) -> str | float | None:
        """The most likely label, or the number."""
        return self.labels[0].label if self.labels else self.value

    def rows(self) -> list[dict[str, Any]]:
        row: dict[str, Any] = {self.target: self.prediction}
        if self.labels:
            row["probability"] = self.labels[0].probability
        if self.typicality is not None:
            row["typicality"] = self.typicality
        return [{**row, "model": self._model()}]

    def _repr_html_(self) -> str:
        if self.labels is None:
            return display.table(self.rows())
        return display.bars((each.label, each.probability) for each in self.labels)
