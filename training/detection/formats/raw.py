"""Annotated images as they were found, whatever the format."""

from dataclasses import dataclass, field
from pathlib import Path

from training.data.dataset import Inspection
from training.data.inspection import Problems

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as it was annotated.

    Attributes:
        corners: x_min, y_min, x_max, y_max in pixels of the image, or as fractions of its sides.
        label: the class's name, or what was given instead.
        origin: file and line, or row and object.
        relative: whether `corners` are fractions.
        crowd: whether it holds many objects that are not annotated one by one (COCO's `iscrowd`).
    """

    corners: Corners
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
        classes: their names; if empty, those of the boxes.
        splits: the images of each.
        inspection: what was found on the way.
        problems: what cannot be used.
    """

    classes: tuple[str, ...] = ()
    splits: dict[str, list[RawImage]] = field(default_factory=dict)
    inspection: Inspection = field(default_factory=Inspection)
    problems: Problems = field(default_factory=Problems)

    def add(self, split: str, image: Path | bytes | None, name: str, boxes: list[RawBox], origin: Path) -> None:
        """Adds an image to a split; one that was not found (None) is a problem of its annotation at `origin`."""
        if image is None:
            self.problems.add(str(origin), f"the image {name} is neither beside it nor in a folder near it")
        else:
            name = image.name if isinstance(image, Path) else name
            self.splits.setdefault(split, []).append(RawImage(image, name, tuple(boxes)))


def from_sides(x: float, y: float, width: float, height: float) -> Corners:
    """The corners of a box that is given by its upper left corner and its sides."""
    return x, y, x + width, y + height


def around(points: list[tuple[float, float]]) -> Corners:
    """The corners of the bounding box of points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
