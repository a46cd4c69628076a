"""The manifest of a text classifier."""

from typing import Literal

from pydantic import Field, model_validator

from service.tasks.cards import Calibration, ClassifierMetrics, ClassifierVariant, ConformalPoint
from service.tasks.familiarity import FamiliarManifest

# The tokenizer, a file beside the graph.
TOKENIZER = "tokenizer.json"


class TextManifest(FamiliarManifest):
    """A text classifier: int64 token ids (batch, length; 0 is padding at the end) to probabilities (batch, labels).

    Attributes:
        max_length: the most words of a text that are read.
        words: size of the vocabulary, padding and unknown included.
    """

    task: Literal["text"] = "text"
    labels: tuple[str, ...]
    max_length: int = Field(gt=0)
    words: int = Field(gt=2)
    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...] = Field(min_length=1)
    variants: tuple[ClassifierVariant, ...] = Field((), exclude_if=lambda variants: not variants)

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"accuracy": self.metrics.accuracy, "macro_f1": self.metrics.macro_f1}

    @property
    def companions(self) -> tuple[str, ...]:
        """The tokenizer."""
        return (TOKENIZER,)

    @property
    def longest(self) -> int:
        """The most words of a text that are read."""
        return self.max_length

    @model_validator(mode="after")
    def _check_shapes(self) -> "TextManifest":
        self.check_shapes([(-1, -1)], [(-1, len(self.labels))], "labels")
        return self
