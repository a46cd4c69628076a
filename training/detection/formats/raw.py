"""Annotated images as they were found, whatever the format."""

from dataclasses import dataclass, field
from pathlib import Path

from training.data.dataset import Inspection
from training.data.inspection import Problems


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as it was annotated.

    Attributes:
        corners: x_min, y_min, x_max, y_max in pixels of the image, or as fractions of its sides.
        relative: whether `corners` are fractions.
        label: the class's name, or what was given instead.
        origin: file and line, or row and object.
        crowd: whether it holds many objects that are not annotated one by one (COCO's `iscrowd`).
    """

    corners: tuple[float, float, float, float]
    label: str
    origin: str
    relative: bool = False
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image with its boxes: `image` is a path, or the bytes of a file."""

    image: Path | bytes
    name: str
    boxes: tuple[RawBox, ...] = ()


@dataclass(slots=True)
class RawData:
    """The splits of a source (`train`, `validation`, `test`), and its classes in order.

    Attributes:
        classes: their names; while it is empty, those of the boxes are meant.
        splits: the images of each.
        inspection: what was found on the way.
        problems: what cannot be used.
    """

    classes: tuple[str, ...] = ()
    splits: dict[str, list[RawImage]] = field(default_factory=dict)
    inspection: Inspection = field(default_factory=Inspection)
    problems: Problems = field(default_factory=Problems)

    def add(self, split: str, image: RawImage) -> None:
        """Adds an image to a split."""
        self.splits.setdefault(split, []).append(image)
