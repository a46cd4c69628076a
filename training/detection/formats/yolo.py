"""YOLO: a text file of `class x_center y_center width height` for each image, in fractions of its sides."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from training.data.dataset import DataError
from training.detection.formats.raw import RawBox, RawData, RawImage
from training.detection.formats.tree import Tree

_SPLITS = {"train": "train", "valid": "validation", "val": "validation", "validation": "validation", "test": "test"}
_NAMES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "names.txt")


def find_yolo(tree: Tree) -> list[Path]:
    """The files that may be of this format: `data.yaml`, or else the text files named as the images are."""
    described = [
        path
        for path in tree.ending(".yaml", ".yml")
        if path.stem.lower() == "data" or "names" in path.read_text(errors="replace")
    ]
    if described:
        return sorted(described, key=lambda path: (path.stem.lower() != "data", len(path.parts)))[:1]
    return [path for path in tree.ending(".txt") if tree.find(path.stem, path) and _is_label_file(path)]


def read_yolo(tree: Tree, files: list[Path]) -> RawData:
    """Reads what `data.yaml` describes, or the label files alone; see `training.detection.formats.read`."""
    if files[0].suffix.lower() in (".yaml", ".yml"):
        return _read_described(tree, files[0])
    data = RawData()
    listed = next((path for path in tree.files if path.name.lower() in _NAMES), None)
    if listed:
        data.classes = tuple(line.strip() for line in listed.read_text().splitlines() if line.strip())
    else:
        data.inspection.warnings.append(
            f"the names of the classes are unknown: put them into {tree.root / 'classes.txt'}, one on each line"
        )
        data.classes = _numbered(files)
    for path in files:
        image = tree.find(path.stem, path)
        if image:
            boxes = tuple(_boxes(path, data.classes, data))
            data.add(tree.split(image) or tree.split(path) or "train", RawImage(image, image.name, boxes))
    return data


def _numbered(files: list[Path]) -> tuple[str, ...]:
    words = (line.split()[0] for path in files for line in path.read_text().splitlines() if line.strip())
    return tuple(
        f"class {number}" for number in range(1 + max((int(word) for word in words if word.isdecimal()), default=0))
    )


def _is_label_file(path: Path) -> bool:
    line = next((line for line in path.read_text(errors="replace").splitlines() if line.strip()), "0 0 0 0 0")
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
    for key, split in _SPLITS.items():
        if document.get(key) and split not in data.splits:
            stated = document[key] if isinstance(document[key], list) else [document[key]]
            data.splits[split] = []
            for entry in stated:
                for image in _images(tree, path, document, key, entry):
                    data.add(split, RawImage(image, image.name, tuple(_boxes(_labels_of(image), classes, data))))
    return data


def _images(tree: Tree, path: Path, document: dict[str, Any], key: str, entry: Any) -> list[Path]:
    """The images of a folder, or those that a text file lists."""
    folder = path.parent
    # Roboflow writes ../train/images for what lies beside data.yaml.
    names = (str(entry), str(entry).removeprefix("../"))
    bases = (folder / str(document.get("path", ".")), folder)
    for candidate in (base / name for name in names for base in bases):
        if candidate.is_dir():
            inside = candidate.resolve()
            below = [image for image in tree.images() if image.resolve().is_relative_to(inside)]
            return below or sorted(Tree(candidate).images())
        if candidate.is_file():
            lines = [line.strip() for line in candidate.read_text().splitlines() if line.strip()]
            return [image for line in lines if (image := tree.find(line, candidate))]
    raise DataError(f"{path}: {key}: {entry} is no folder below {bases[0]}.")


def _labels_of(image: Path) -> Path:
    parts = list(image.with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index].lower() == "images":
            parts[index] = "labels" if parts[index].islower() else "Labels"
            break
    return Path(*parts)


def _boxes(path: Path, classes: tuple[str, ...], data: RawData) -> Iterator[RawBox]:
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
        yield RawBox(corners, name, origin, relative=True)


def _corners(values: list[float]) -> tuple[float, float, float, float]:
    """Of a box, perhaps with its confidence, or of a polygon."""
    if len(values) in (4, 5):
        x, y, w, h = values[:4]
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if len(values) < 6 or len(values) % 2:
        raise ValueError("neither a box nor a polygon")
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
