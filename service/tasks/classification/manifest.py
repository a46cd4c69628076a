"""The manifest of an image classifier."""

from typing import Literal

from pydantic import model_validator

from service.tasks.cards import ImageInput
from service.tasks.labels import LabelManifest


class ClassifierManifest(LabelManifest):
    """An image classifier: uint8 pixels (batch, height, width, channels) to probabilities (batch, labels)."""

    former_tasks = ("image-classification",)
    task: Literal["classification"] = "classification"
    image: ImageInput

    @property
    def headline(self) -> dict[str, float]:
        """The main test figures."""
        return {"accuracy": self.metrics.accuracy} if self.metrics else {}

    @model_validator(mode="after")
    def _check_shapes(self) -> "ClassifierManifest":
        self.check_shapes([self.image.shape], [(-1, len(self.labels))], "image and labels")
        return self
