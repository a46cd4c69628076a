"""The objects of images."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from quartet import display
from quartet.answers.base import Document, ImageAnswer, RatedAnswer, ServedBy, known, load, typicality_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An object: label, score, and where it is, in pixels of the image after EXIF rotation, from the top left."""

    label: str
    index: int
    score: float
    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The confidence from which a detection counts, and what it reached on the test split; None if not evaluated."""

    confidence: float
    precision: float | None
    recall: float | None


@dataclass(frozen=True, kw_only=True)
class Detections(ImageAnswer, RatedAnswer):
    """The objects of an image, the highest score first.

    Attributes:
        boxes: of the objects; with `strict`, none in an image that is unlike the training data.
        counts: objects of each label.
        width: of the image, in pixels after EXIF rotation.
        height: in pixels after EXIF rotation.
        threshold: the lowest score of an object.
    """

    boxes: tuple[Box, ...]
    counts: Mapping[str, int]
    width: int
    height: int
    threshold: Threshold

    @classmethod
    def read(cls, document: Document, served_by: ServedBy, **more: Any) -> Self:
        """From one result, to which the answer's `threshold` was added."""
        boxes = tuple(Box(**known(Box, box)) for box in document["boxes"])
        threshold = Threshold(**known(Threshold, document["threshold"]))
        rest = {name: document[name] for name in ("counts", "width", "height")}
        rest["typicality"] = typicality_of(document)
        return cls(served_by=served_by, boxes=boxes, threshold=threshold, **rest, **more)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {"name": self.name, **{each.name: getattr(box, each.name) for each in fields(box)}, "model": self._model()}
            for box in self.boxes
        ]

    def _repr_html_(self) -> str:
        if self.source is None:
            return display.table(self.rows())
        found = [(box.label, box.score, (box.x_min, box.y_min, box.x_max, box.y_max)) for box in self.boxes]
        return display.boxes(load(self.source), self.width, self.height, found)
