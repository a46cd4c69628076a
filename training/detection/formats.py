"""Annotated images as they lie on disk or on the hub: COCO JSON, YOLO, Pascal VOC, hub-style parquet.

Every box keeps its origin (file and line, or row), so that an invalid one can be found. Libraries such as
`supervision` stop at the first invalid box without saying where it is, or silently swap the corners of an inverted one.
"""

import json
import xml.parsers.expat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import yaml

from training.data import DataError
from training.hub import load, local_path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SPLITS = {"train": "train", "valid": "validation", "val": "validation", "validation": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as it was annotated.

    Attributes:
        corners: x_min, y_min, x_max, y_max in pixels of the image, or as fractions of its sides.
        relative: whether `corners` are fractions.
        label: the class's name, or what was given instead.
        origin: file and line, or row and object.
    """

    corners: tuple[float, float, float, float]
    label: str
    origin: str
    relative: bool = False


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image with its boxes: `image` is a path or the bytes of a file."""

    image: Path | bytes
    name: str
    boxes: tuple[RawBox, ...] = ()


@dataclass(slots=True)
class RawData:
    """The splits of a source (`train`, `validation`, `test`), and its classes in order."""

    classes: tuple[str, ...]
    splits: dict[str, list[RawImage]] = field(default_factory=dict)


def read(source: str) -> RawData:
    """Reads a source in any of the formats.

    Args:
        source: a hub id, or a folder with parquet files, with COCO JSON (`<split>/_annotations.coco.json` or
            `annotations/*<split>*.json`), with a YOLO `data.yaml`, or in the layout of Pascal VOC.

    Raises:
        DataError: no such folder, no known format, or a file that cannot be parsed; names it.
    """
    folder = local_path(source, "Give a hub id or a folder of annotated images.", folder=True)
    if folder is None:
        return read_hub(source)
    if any(folder.rglob("*.parquet")):
        return read_hub(str(folder))
    formats: tuple[tuple[Callable[[Path], Any], Callable[[Path], RawData]], ...] = (
        (_coco_files, read_coco),
        (lambda path: [*path.glob("data.y*ml")], read_yolo),
        (_voc_files, read_voc),
    )
    for finds, read_format in formats:
        if finds(folder):
            data = read_format(folder)
            if not data.splits.get("train"):
                raise DataError(f"{source}: has no training images (splits: {', '.join(data.splits) or 'none'}).")
            return data
    raise DataError(
        f"{source}: no annotated images found. Give parquet files, COCO JSON ('train/_annotations.coco.json' or "
        "'annotations/instances_train.json'), a YOLO data.yaml, or Pascal VOC ('Annotations/*.xml')."
    )


def read_hub(source: str) -> RawData:
    """Parquet with `image` and `objects` {`bbox` (x, y, width, height), `category`}, as `rishitdagli/cppe-5`."""
    loaded = load(source, source)
    first = next(iter(loaded.values()))
    objects = first.features.get("objects")
    if "image" not in first.features or not {"bbox", "category"} <= set(_inner(objects)):
        raise DataError(f"{source}: needs the columns image and objects (with bbox and category).")
    category = _inner(_inner(objects)["category"])
    names = getattr(category, "names", None)
    if names is None:
        values = {value for part in loaded.values() for row in part["objects"] for value in row["category"]}
        names = [str(value) for value in sorted(values)]
        lookup = {value: str(value) for value in values}
    else:
        lookup = dict(enumerate(names))
    data = RawData(tuple(names))
    for split, part in loaded.items():
        part = part.select_columns(["image", "objects"]).cast_column("image", datasets.Image(decode=False))
        images = []
        for row, item in enumerate(part):
            origin = f"{source} [{split}] row {row}"
            boxes = tuple(
                RawBox((x, y, x + w, y + h), lookup.get(value, str(value)), f"{origin} object {number}")
                for number, ((x, y, w, h), value) in enumerate(
                    zip(item["objects"]["bbox"], item["objects"]["category"], strict=True)
                )
            )
            image = item["image"]
            content = image["bytes"] if image["bytes"] is not None else Path(image["path"])
            name = Path(image["path"]).name if image["path"] else f"{split}-{row}"
            images.append(RawImage(content, name, boxes))
        data.splits[_SPLITS.get(split, split)] = images
    return data


def _inner(feature: Any) -> Any:
    """The element of a list feature; anything else unchanged."""
    feature = getattr(feature, "feature", feature)
    return feature[0] if isinstance(feature, list) else feature or {}


def _coco_files(folder: Path) -> dict[str, Path]:
    """The annotation file of each split."""
    found: dict[str, Path] = {}
    for name, split in _SPLITS.items():
        candidates = [
            folder / name / "_annotations.coco.json",
            *sorted((folder / "annotations").glob(f"*{name}*.json")),
            folder / f"{name}.json",
        ]
        existing = [path for path in candidates if path.is_file()]
        if existing:
            found.setdefault(split, existing[0])
    return found


def read_coco(folder: Path) -> RawData:
    """COCO JSON (https://cocodataset.org/#format-data); boxes are x, y, width, height."""
    data = RawData(())
    classes: dict[str, None] = {}
    for split, path in _coco_files(folder).items():
        try:
            document = json.loads(path.read_bytes())
            names = {category["id"]: str(category["name"]) for category in document["categories"]}
            files = {image["id"]: image["file_name"] for image in document["images"]}
            annotations = document.get("annotations", [])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: is no COCO JSON ({type(error).__name__}: {error}).") from error
        boxes: dict[Any, list[RawBox]] = {image: [] for image in files}
        for number, annotation in enumerate(annotations):
            origin = f"{path} annotations[{number}]"
            try:
                x, y, w, h = (float(value) for value in annotation["bbox"])
                category, image = annotation["category_id"], annotation["image_id"]
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{origin}: needs bbox, category_id and image_id ({error!r}).") from error
            if annotation.get("iscrowd"):
                continue
            if image not in boxes:
                raise DataError(f"{origin}: image_id {image} is none of the images.")
            boxes[image].append(RawBox((x, y, x + w, y + h), names.get(category, f"category_id {category}"), origin))
        # Roboflow's files begin with a class "none" that groups the others and that no box has.
        used = {box.label for group in boxes.values() for box in group}
        parents = {category.get("supercategory") for category in document["categories"]}
        classes |= {name: None for name in names.values() if name in used or name not in parents}
        data.splits[split] = [
            RawImage(_find(path, name, split), name, tuple(boxes[image])) for image, name in files.items()
        ]
    data.classes = tuple(classes)
    return data


def _find(annotations: Path, name: str, split: str) -> Path:
    """An image named in an annotation file: beside it, or in a folder of images near it."""
    root = annotations.parent
    tops = (root, root.parent, root.parent / "images", root / "images")
    aliases = [alias for alias, target in _SPLITS.items() if target == split]
    for top in tops:
        for path in (top / name, *(top / alias / name for alias in aliases)):
            if path.is_file():
                return path
        for path in top.glob(f"{aliases[0]}*/{name}"):  # train2017
            return path
    raise DataError(f"{annotations}: the image {name} is neither beside it nor in a folder of images near it.")


def read_yolo(folder: Path) -> RawData:
    """YOLO: `data.yaml` with `names` and the folders of images; a text file of `class x y width height` per image."""
    path = next(folder.glob("data.y*ml"))
    try:
        document = yaml.safe_load(path.read_text())
        names = document["names"]
        classes = tuple(str(name) for name in (names.values() if isinstance(names, dict) else names))
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: needs `names`, the classes in order ({error}).") from error
    data = RawData(classes)
    root = folder / str(document.get("path", "."))
    for key, split in _SPLITS.items():
        if document.get(key) and split not in data.splits:
            images = next(
                (base / str(document[key]) for base in (root, folder) if (base / str(document[key])).is_dir()), None
            )
            if images is None:
                raise DataError(f"{path}: {key}: {document[key]} is no folder below {root}.")
            data.splits[split] = [
                RawImage(image, image.name, tuple(_yolo_boxes(image, classes))) for image in _images(images)
            ]
    return data


def _yolo_boxes(image: Path, classes: tuple[str, ...]) -> Iterator[RawBox]:
    parts = list(image.with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    path = Path(*parts)
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else (), start=1):
        if not line.strip():
            continue
        origin = f"{path}:{number}"
        try:
            label, x, y, w, h = (float(value) for value in line.split()[:5])
        except ValueError:
            raise DataError(f"{origin}: is not `class x_center y_center width height`: {line.strip()!r}") from None
        name = classes[int(label)] if label.is_integer() and 0 <= label < len(classes) else f"class {line.split()[0]}"
        yield RawBox((x - w / 2, y - h / 2, x + w / 2, y + h / 2), name, origin, relative=True)


def _voc_files(folder: Path) -> dict[str, list[Path]]:
    """The XML files of each split."""
    annotations = folder / "Annotations"
    found: dict[str, list[Path]] = {}
    for name, split in _SPLITS.items():
        listed = folder / "ImageSets" / "Main" / f"{name}.txt"
        if annotations.is_dir() and listed.is_file():
            lines = listed.read_text().splitlines()
            found[split] = [annotations / f"{line.split()[0]}.xml" for line in lines if line.strip()]
        elif (folder / name).is_dir() and (paths := sorted((folder / name).glob("*.xml"))):
            found[split] = paths
    if not found and annotations.is_dir():
        found["train"] = sorted(annotations.glob("*.xml"))
    return found


def read_voc(folder: Path) -> RawData:
    """Pascal VOC: an XML file per image; pixels count from 1 and the last one is inside the box."""
    data = RawData(())
    for split, paths in _voc_files(folder).items():
        images = []
        for path in paths:
            name, boxes = _voc_boxes(path)
            tops = (path.parent, folder / "JPEGImages", folder / "images")
            image = next((top / name for top in tops if (top / name).is_file()), None)
            if image is None:
                raise DataError(f"{path}: the image {name} is neither beside it nor in JPEGImages or images.")
            images.append(RawImage(image, name, boxes))
        data.splits[split] = images
    train = data.splits.get("train", [])
    data.classes = tuple(sorted({box.label for image in train for box in image.boxes}))
    return data


def _voc_boxes(path: Path) -> tuple[str, tuple[RawBox, ...]]:
    """The image's file name and its boxes, each with the line at which its object begins."""
    parser = xml.parsers.expat.ParserCreate()
    trail: list[str] = []
    found: list[tuple[int, dict[str, str]]] = []
    text: dict[str, str] = {}

    def start(tag: str, _: dict[str, str]) -> None:
        trail.append(tag)
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
            raise DataError(f"{path}:{line}: the object needs a name and a bndbox ({error!r}).") from error
    return text.get("filename") or path.with_suffix(".jpg").name, tuple(boxes)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
