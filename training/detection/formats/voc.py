"""Pascal VOC: an XML file for each image; pixels count from 1 and the last one is inside the box."""

import xml.parsers.expat
from pathlib import Path

from training.data.dataset import DataError
from training.data.tables import split_of
from training.detection.formats.raw import RawBox, RawData, RawImage
from training.detection.formats.tree import Tree


def find_voc(tree: Tree) -> list[Path]:
    """The files that may be of this format."""
    found = tree.ending(".xml")
    return found if any(b"<annotation" in path.read_bytes()[:4096] for path in found[:20]) else []


def read_voc(tree: Tree, files: list[Path]) -> RawData:
    """Reads an XML file for each image; the splits are those of the lists in ImageSets, or of the folders.

    See `training.detection.formats.read`.
    """
    data = RawData()
    listed = _listed(tree, files)
    used = set()
    for path in files:
        splits = listed.get(path.stem.lower(), []) if listed else [tree.split(path) or "train"]
        if not splits:
            continue
        try:
            name, boxes = _boxes(path, data)
        except DataError as error:
            data.problems.add(*str(error).split(": ", 1))
            continue
        # Images are renamed together with their files more often than what these state is.
        image = tree.find(path.stem, path) or tree.find(name, path)
        if image is None:
            data.problems.add(str(path), f"the image {name} is neither beside it nor in a folder near it")
            continue
        used.add(image)
        for split in splits:
            data.add(split, RawImage(image, image.name, boxes))
    rest = sum(path not in used for path in tree.images())
    if rest and not listed:
        data.inspection.notes.append(f"{rest:,} images have no XML file: they are not used")
    return data


def _listed(tree: Tree, files: list[Path]) -> dict[str, list[str]]:
    """The splits of each image, by its stem, from `ImageSets/Main/train.txt` and its like."""
    stems = {path.stem.lower() for path in files}
    found: dict[str, list[str]] = {}
    for path in tree.ending(".txt"):
        split = split_of(path.stem)
        if split is None or path.parent.name.lower() != "main" or path.stem.lower() not in _WHOLE:
            continue
        for line in path.read_text().splitlines():
            stem = Path(line.split()[0]).stem.lower() if line.strip() else ""
            if stem in stems:
                found.setdefault(stem, []).append(split)
    return found


# Beside these there is a list for each class (cat_train.txt), and one of train and validation together.
_WHOLE = ("train", "val", "valid", "validation", "test")


def _boxes(path: Path, data: RawData) -> tuple[str, tuple[RawBox, ...]]:
    """The image's file name and its boxes, each with the line at which its object begins."""
    parser = xml.parsers.expat.ParserCreate()
    trail: list[str] = []
    found: list[tuple[int, dict[str, str]]] = []
    text: dict[str, str] = {}

    def start(tag: str, _: dict[str, str]) -> None:
        trail.append(tag.lower())
        if trail == ["annotation", "object"]:
            found.append((parser.CurrentLineNumber, {}))

    def end(_: str) -> None:
        trail.pop()

    def characters(content: str) -> None:
        if trail[:2] != ["annotation", "object"]:
            values, wanted = text, 2
        else:
            # An object's parts (head, hand) have names and boxes of their own, which lie deeper.
            values, wanted = found[-1][1], 4 if trail[2:3] == ["bndbox"] else 3
        if len(trail) == wanted:
            values[trail[-1]] = values.get(trail[-1], "") + content.strip()

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, characters
    try:
        parser.Parse(path.read_bytes(), True)
    except (OSError, xml.parsers.expat.ExpatError) as error:
        raise DataError(f"{path}: cannot be read as Pascal VOC XML: {error}") from error
    boxes = []
    for line, values in found:
        try:
            x_min, y_min, x_max, y_max = (float(values[name]) for name in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append(RawBox((x_min - 1, y_min - 1, x_max, y_max), values["name"], f"{path}:{line}"))
        except (KeyError, ValueError) as error:
            data.problems.add(f"{path}:{line}", f"the object needs a name and a bndbox ({error!r})")
    return text.get("filename") or path.stem, tuple(boxes)
