"""The files of a folder, to be found by name whatever its case, as Windows and macOS find them."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from training.data.sources import files_below, kinds_of
from training.data.tables import split_of

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class Tree:
    """All files below a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = [Path(name) for name in files_below(root)]
        self._images: dict[str, list[Path]] = defaultdict(list)
        self._stems: dict[str, list[Path]] = defaultdict(list)
        for path in self.images():
            self._images[path.name.lower()].append(path)
            self._stems[path.stem.lower()].append(path)

    def ending(self, *suffixes: str) -> list[Path]:
        """The files with one of these suffixes, in order."""
        return [path for path in self.files if path.suffix.lower() in suffixes]

    def images(self, below: Path | None = None) -> Iterator[Path]:
        """All images, or those below a folder."""
        return (path for path in self.ending(*IMAGE_SUFFIXES) if below is None or path.is_relative_to(below))

    def find(self, name: str, near: Path) -> Path | None:
        """The image that an annotation means.

        Args:
            name: as the annotation has it, perhaps with folders of another machine, in another case, or with another
                suffix.
            near: the annotation's file. Of several images of the name the one with the most folders in common, or in
                the same split, is meant.
        """
        parts = name.replace("\\", "/").lower().split("/")
        found = self._images.get(parts[-1]) or self._stems.get(Path(parts[-1]).stem) or self._stems.get(parts[-1])
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

    def summary(self) -> str:
        """What is in it, for messages: how many files of each suffix."""
        return kinds_of([path.name for path in self.files])
