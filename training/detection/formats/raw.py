"""Annotated images as they were found, whatever the format, and the folder that holds them."""

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from training.data.dataset import Inspection
from training.data.inspection import Problems
from training.data.sources import files_below, kinds_of
from training.data.tables import split_of

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as it was annotated.

    Attributes:
        corners: x_min, y_min, x_max, y_max in pixels of the image, or as fractions of its sides if `relative`.
        label: the class's name, or what was given instead.
        origin: file and line, or row and object.
        crowd: whether it holds many objects that are not annotated one by one (COCO's `iscrowd`).
    """

    corners: Corners
    label: str
    origin: str
    relative: bool = False
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image, a path or the bytes of a file, with its boxes; `key` changes with the content of the bytes."""

    image: Path | bytes
    name: str
    boxes: tuple[RawBox, ...] = ()
    key: bytes | None = None

    def read(self) -> bytes:
        """The file."""
        return self.image if isinstance(self.image, bytes) else self.image.read_bytes()


@dataclass(slots=True)
class RawData:
    """The images of each split (`train`, `validation`, `test`); without `classes` they are those of the boxes."""

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
    """The bounding box of points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


class Tree:
    """All files below a folder, to be found by name whatever its case, as Windows and macOS find them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = [Path(name) for name in files_below(root)]
        self.images = self.ending(*_IMAGE_SUFFIXES)
        self.summary = kinds_of([path.name for path in self.files])
        self._named: dict[str, list[Path]] = defaultdict(list)
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for path in self.images:
            self._named[path.name.lower()].append(path)
            self._stems[path.stem.lower()].append(path)

    def ending(self, *suffixes: str) -> list[Path]:
        """The files with one of these suffixes, in order."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def find(self, name: str, near: Path) -> Path | None:
        """The image that an annotation means.

        Args:
            name: as the annotation has it, perhaps with folders of another machine, in another case, or with another
                suffix.
            near: the annotation's file. Of several images of the name the one with the most folders in common, or in
                the same split, is meant.
        """
        parts = name.replace("\\", "/").lower().split("/")
        found = self._named.get(parts[-1]) or self._stems.get(Path(parts[-1]).stem) or self._stems.get(parts[-1])
        if not found:
            return None
        split = self.split_of_file(near)

        def closeness(path: Path) -> tuple[int, bool, int]:
            ours = [part.lower() for part in path.parts]
            tail = sum(1 for a, b in zip(reversed(ours), reversed(parts), strict=False) if a == b)
            common = os.path.commonpath((path, near))
            return tail, split is not None and self.split(path) == split, len(Path(common).parts)

        return found[0] if len(found) == 1 else max(found, key=closeness)

    def split(self, path: Path) -> str | None:
        """The split that the folders of a file are named after, such as `train2017`; None if none is."""
        for part in reversed(path.relative_to(self.root).parts[:-1]):
            if part.rstrip("0123456789").isalpha() and (split := split_of(part)):
                return split
        return None

    def split_of_file(self, path: Path) -> str | None:
        """The split that a file with the annotations of many images is named after, or its folders are."""
        return split_of(path.stem) or self.split(path)
