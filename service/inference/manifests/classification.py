"""What a classifier of images or texts says of itself."""

from typing import Literal

from pydantic import Field, model_validator

from service.inference.cards import Calibration, Card, ImageInput, ManifestBase, Probability

# What makes token ids of a text, beside a text classifier.
TOKENIZER = "tokenizer.json"


class ConformalPoint(Card):
    """One row of the split conformal table (Sadinle et al. 2019, arXiv:1609.00451).

    Attributes:
        coverage: how often the label set shall hold the truth.
        threshold: a label is in the set if its probability is at least this (the likeliest always is).
        test_coverage: how often it did on the test split.
        mean_set_size: labels in a set on average, likewise.
    """

    coverage: Probability
    threshold: Probability
    test_coverage: Probability
    mean_set_size: float


class ClassMetrics(Card):
    """Test figures of one class (one against the rest)."""

    label: str
    precision: Probability
    recall: Probability
    f1: Probability
    support: int


class ClassifierMetrics(Card):
    """Test figures of a classifier."""

    accuracy: Probability
    macro_f1: Probability
    negative_log_likelihood: float
    validation_accuracy: Probability
    per_class: tuple[ClassMetrics, ...]


class ClassifierManifest(ManifestBase):
    """An image classifier: uint8 pixels (batch, height, width, channels) to probabilities (batch, labels)."""

    task: Literal["image-classification"] = "image-classification"
    labels: tuple[str, ...]
    image: ImageInput
    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...] = Field(min_length=1)

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"accuracy": self.metrics.accuracy}

    @model_validator(mode="after")
    def _agrees(self) -> "ClassifierManifest":
        stated = ([spec.shape for spec in self.inputs], [spec.shape for spec in self.outputs])
        image = (-1, self.image.height, self.image.width, self.image.channels)
        if stated != ([image], [(-1, len(self.labels))]):
            raise ValueError(f"its image and labels need tensors of {image} and (-1, {len(self.labels)})")
        return self


class TextManifest(ManifestBase):
    """A text classifier: int64 token ids (batch, length; 0 is padding at the end) to probabilities (batch, labels).

    Beside it lies `tokenizer.json`, which makes token ids of a text.

    Attributes:
        max_length: the most words of a text that are read.
        words: size of the vocabulary, padding and unknown included.
    """

    task: Literal["text-classification"] = "text-classification"
    labels: tuple[str, ...]
    max_length: int = Field(gt=0)
    words: int = Field(gt=2)
    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...] = Field(min_length=1)

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
    def _agrees(self) -> "TextManifest":
        stated = ([spec.shape for spec in self.inputs], [spec.shape for spec in self.outputs])
        if stated != ([(-1, -1)], [(-1, len(self.labels))]):
            raise ValueError(f"its labels need tensors of (-1, -1) and (-1, {len(self.labels)})")
        return self
