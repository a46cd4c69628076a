"""The models that are served."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from quartet import display
from quartet.answers.base import Document, known


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that is served.

    Attributes:
        name: by which it is asked.
        version: that answers.
        task: what it is for.
        description: in a line.
        device: where it runs.
        metrics: figures on the test split.
        manifest: all that is known of it; only from `Client.model`.
        fields: everything that the server says of it.
    """

    name: str
    version: str
    task: str
    description: str
    device: str
    metrics: Mapping[str, float]
    manifest: Mapping[str, Any] | None = field(default=None, repr=False)
    fields: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> Self:
        """From an entry of the list, or the answer about one model."""
        return cls(**known(cls, document, "fields"), fields=document)

    def rows(self) -> list[dict[str, Any]]:
        """The model as a row of a table."""
        row = {name: getattr(self, name) for name in ("name", "version", "task", "description", "device")}
        return [{**row, **self.metrics}]

    def _repr_html_(self) -> str:
        return display.table(self.rows())
