"""The manifest of an image classifier."""

from typing import Literal

from pydantic import Field, model_validator

from service.tasks.cards import Calibration, ClassifierMetrics, ClassifierVariant, ConformalPoint, ImageInput
from service.tasks.familiarity import FamiliarManifest


class ClassifierManifest(FamiliarManifest):
    """An image classifier: uint8 pixels (batch, height, width, channels) to probabilities (batch, labels)."""

    task: Literal["classification"] = "classification"
    labels: tuple[str, ...]
    image: ImageInput
    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...] = Field(min_length=1)
    variants: tuple[ClassifierVariant, ...] = Field((), exclude_if=lambda variants: not variants)

    @property
    def headline(self) -> dict[str, float]:
        """The figures that say how good it is in a line."""
        return {"accuracy": self.metrics.accuracy}

    @model_validator(mode="after")
    def _check_shapes(self) -> "ClassifierManifest":
        self.check_shapes([self.image.shape], [(-1, len(self.labels))], "image and labels")
        return self
