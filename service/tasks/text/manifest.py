"""The manifest of a text classifier."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from service.inference.cards import optional
from service.tasks.labels import LabelManifest

# The tokenizer, a file beside the graph.
TOKENIZER = "tokenizer.json"


class TextManifest(LabelManifest):
    """A text classifier: int64 token ids (batch, length; 0 is padding at the end) to probabilities (batch, labels).

    Attributes:
        max_length: the most words of a text that are read.
        words: size of the vocabulary, padding and unknown included.
        text_column: the column of the texts in the table that the model was trained on; None if there was none.
    """

    former_tasks = ("text-classification",)
    task: Literal["text"] = "text"
    max_length: int = Field(gt=0)
    words: int = Field(gt=2)
    text_column: str | None = optional(None)

    @property
    def headline(self) -> dict[str, float]:
        """The main test figures."""
        return {"accuracy": self.metrics.accuracy, "macro_f1": self.metrics.macro_f1} if self.metrics else {}

    @property
    def companions(self) -> tuple[str, ...]:
        """The tokenizer."""
        return (TOKENIZER,)

    @property
    def longest(self) -> int:
        """The most words of a text that are read."""
        return self.max_length

    @property
    def pads(self) -> bool:
        return True

    @property
    def bounds(self) -> Mapping[str, tuple[Any, Any]]:
        """Of token ids."""
        return {self.inputs[0].name: (0, self.words - 1)}

    @model_validator(mode="after")
    def _check_shapes(self) -> "TextManifest":
        self.check_shapes([(-1, -1)], [(-1, len(self.labels))], "labels")
        return self
