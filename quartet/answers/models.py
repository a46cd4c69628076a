"""The served models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from quartet import display
from quartet.answers.base import Document, known


@dataclass(frozen=True, kw_only=True)
class Model:
    """A served model.

    Attributes:
        name: of the model.
        version: that answers.
        task: such as `classification`.
        description: one line.
        device: where it runs.
        variant: which of the version's graphs answers, if the server states it.
        metrics: measured on the test split.
        manifest: of the version; only from `Client.model`.
        fields: the whole entry of the server.
    """

    name: str
    version: str
    task: str
    description: str
    device: str
    variant: str | None = None
    metrics: Mapping[str, float]
    manifest: Mapping[str, Any] | None = field(default=None, repr=False)
    fields: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> Self:
        """From an entry of the list, or the answer about one model."""
        return cls(**known(cls, document, "fields"), fields=document)

    def rows(self) -> list[dict[str, Any]]:
        """The model as a row of a table."""
        row = {name: getattr(self, name) for name in ("name", "version", "task", "device", "variant", "description")}
        return [{**row, **self.metrics}]

    def _repr_html_(self) -> str:
        return display.table(self.rows())
