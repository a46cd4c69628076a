"""YOLO: a text file of `class x_center y_center width height` for each image, in fractions of its sides."""

from pathlib import Path
from typing import Any

import yaml

from training.data.dataset import DataError
from training.data.tables import split_of
from training.detection.formats.raw import Corners, RawBox, RawData, Tree, around

_NAMES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "names.txt")
_DESCRIPTIONS = (".yaml", ".yml")


def find_yolo(tree: Tree) -> list[Path]:
    """The files that may be of this format: `data.yaml`, or else the text files named as the images are."""
    described = [
        path
        for path in tree.ending(*_DESCRIPTIONS)
        if path.stem.lower() == "data" or "names" in path.read_text(errors="replace")
    ]
    if described:
        return sorted(described, key=lambda path: (path.stem.lower() != "data", len(path.parts)))[:1]
    return [path for path in tree.ending(".txt") if tree.find(path.stem, path) and _is_label_file(path)]


def read_yolo(tree: Tree, files: list[Path]) -> RawData:
    """Reads what `data.yaml` describes, or the label files alone."""
    if files[0].suffix.lower() in _DESCRIPTIONS:
        return _read_described(tree, files[0])
    data = RawData()
    if listed := next((path for path in tree.files if path.name.lower() in _NAMES), None):
        data.classes = tuple(_lines(listed))
    else:
        data.inspection.warnings.append(
            f"the names of the classes are unknown: put them into {tree.root / 'classes.txt'}, one on each line"
        )
        words = [line.split()[0] for path in files for line in _lines(path)]
        most = max((int(word) for word in words if word.isdecimal()), default=0)
        data.classes = tuple(f"class {number}" for number in range(most + 1))
    for path in files:
        if image := tree.find(path.stem, path):
            split = tree.split(image) or tree.split(path) or "train"
            data.add(split, image, image.name, _boxes(path, data.classes, data), path)
    return data


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]


def _is_label_file(path: Path) -> bool:
    line = next(iter(_lines(path)), "0 0 0 0 0")
    try:
        return len([float(word) for word in line.split()]) >= 5
    except ValueError:
        return False


def _read_described(tree: Tree, path: Path) -> RawData:
    try:
        document = yaml.safe_load(path.read_text())
        names = document["names"]
        classes = tuple(str(name) for name in (names.values() if isinstance(names, dict) else names))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: needs `names`, the classes in order ({error}).") from error
    data = RawData(classes)
    for key in ("train", "valid", "val", "validation", "test"):
        split = split_of(key) or key
        if document.get(key) and split not in data.splits:
            data.splits[split] = []
            for entry in document[key] if isinstance(document[key], list) else [document[key]]:
                for image in _images(tree, path, document, f"{key}: {entry}", str(entry)):
                    data.add(split, image, image.name, _boxes(_labels_of(image), classes, data), path)
    return data


def _images(tree: Tree, path: Path, document: dict[str, Any], stated: str, entry: str) -> list[Path]:
    """The images of a folder, or those that a text file lists."""
    bases = (path.parent / str(document.get("path", ".")), path.parent)
    # Roboflow writes ../train/images for what lies beside data.yaml.
    for candidate in (base / name for name in (entry, entry.removeprefix("../")) for base in bases):
        if candidate.is_dir():
            inside = candidate.resolve()
            return [path for path in tree.images if path.resolve().is_relative_to(inside)] or Tree(candidate).images
        if candidate.is_file():
            return [image for line in _lines(candidate) if (image := tree.find(line, candidate))]
    raise DataError(f"{path}: {stated} is no folder below {bases[0]}.")


def _labels_of(image: Path) -> Path:
    # Beside the last folder of the name "images".
    for folder in image.parents:
        if folder.name.lower() == "images":
            labels = folder.with_name("labels" if folder.name.islower() else "Labels")
            return labels / image.relative_to(folder).with_suffix(".txt")
    return image.with_suffix(".txt")


def _boxes(path: Path, classes: tuple[str, ...], data: RawData) -> list[RawBox]:
    boxes = []
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else (), start=1):
        if not line.strip():
            continue
        origin = f"{path}:{number}"
        try:
            label, *values = (float(value) for value in line.split())
            corners = _corners(values)
        except ValueError:
            data.problems.add(origin, f"is not `class x_center y_center width height`: {line.strip()[:80]!r}")
            continue
        name = classes[int(label)] if label.is_integer() and 0 <= label < len(classes) else f"class {line.split()[0]}"
        boxes.append(RawBox(corners, name, origin, relative=True))
    return boxes


def _corners(values: list[float]) -> Corners:
    """Of a box, perhaps with its confidence, or of a polygon."""
    if len(values) in (4, 5):
        x, y, width, height = values[:4]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < 6 or len(values) % 2:
        raise ValueError("neither a box nor a polygon")
    return around(list(zip(values[::2], values[1::2], strict=True)))
