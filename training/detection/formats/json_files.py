"""COCO JSON, one file for a split (https://cocodataset.org/#format-data), and LabelMe JSON, one for each image."""

import base64
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from training.data.dataset import DataError
from training.detection.formats.raw import Corners, RawBox, RawData, Tree, around, from_sides

# What lies beside the boxes in COCO's own folders.
_LATER = ("captions", "keypoints", "panoptic", "stuff", "image_info", "unlabeled")
_EDGE = 4096
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError)


def find_coco(tree: Tree) -> list[Path]:
    """The files that may be of this format, those with boxes by their name first."""
    found = [path for path in tree.ending(".json") if _has_images(path)]
    return sorted(found, key=lambda path: any(word in path.name.lower() for word in _LATER))


def _has_images(path: Path) -> bool:
    # What may be large is read as a whole only if its ends do not tell.
    with path.open("rb") as file:
        head = file.read(_EDGE)
        file.seek(max(0, path.stat().st_size - _EDGE))
        if b'"images"' in head or b'"images"' in file.read():
            return True
    return b'"shapes"' not in head and path.stat().st_size > 2 * _EDGE and b'"images"' in path.read_bytes()


def read_coco(tree: Tree, files: list[Path]) -> RawData:
    """Reads the file of each split; boxes are x, y, width, height."""
    data = RawData()
    classes: dict[str, None] = {}
    used: dict[str, Path] = {}
    for path in files:
        split = tree.split_of_file(path) or "train"
        try:
            document = json.loads(path.read_bytes())
            annotations = document.get("annotations") or []
            if "categories" not in document or (annotations and not any("bbox" in each for each in annotations[:100])):
                if path is files[-1] and not used:
                    raise DataError(f"{path}: is no COCO JSON with boxes (images, categories, annotations).")
                data.inspection.notes.append(f"{path.name}: has no boxes, so it is not used")
            elif split in used:
                data.inspection.notes.append(f"{path.name}: not used, since {used[split].name} is the {split} split")
            else:
                used[split] = path
                classes |= _add_images(tree, path, split, document, data)
        except _MALFORMED as error:
            raise DataError(f"{path}: is no COCO JSON ({type(error).__name__}: {error}).") from error
    data.classes = tuple(classes)
    return data


def _add_images(tree: Tree, path: Path, split: str, document: dict[str, Any], data: RawData) -> dict[str, None]:
    """Returns the classes of the file."""
    names = {category["id"]: str(category["name"]) for category in document["categories"]}
    files = {image["id"]: str(image["file_name"]) for image in document["images"]}
    boxes: dict[Any, list[RawBox]] = {image: [] for image in files}
    for number, annotation in enumerate(document.get("annotations") or []):
        origin = f"{path} annotations[{number}]"
        try:
            corners = from_sides(*map(float, annotation["bbox"]))
            category, image = annotation["category_id"], annotation["image_id"]
        except (KeyError, TypeError, ValueError) as error:
            data.problems.add(origin, f"needs bbox, category_id and image_id ({error!r})")
            continue
        if image not in boxes:
            data.problems.add(origin, f"image_id {image} is none of the images")
            continue
        label, crowd = names.get(category, f"category_id {category}"), bool(annotation.get("iscrowd"))
        boxes[image].append(RawBox(corners, label, origin, crowd=crowd))
    for image, name in files.items():
        data.add(split, tree.find(name, path), name, boxes[image], path)
    # Roboflow's files begin with a class "none" that groups the others and that no box has.
    labels = {box.label for group in boxes.values() for box in group}
    parents = {category.get("supercategory") for category in document["categories"]}
    return {name: None for name in names.values() if name in labels or name not in parents}


def find_labelme(tree: Tree) -> list[Path]:
    """The files that may be of this format."""
    found = []
    for path in tree.ending(".json"):
        with path.open("rb") as file:
            # The image itself may follow, so only the beginning is read; the shapes stand before it.
            if b'"shapes"' in file.read(_EDGE):
                found.append(path)
    return found


def read_labelme(tree: Tree, files: list[Path]) -> RawData:
    """Reads a file for each image; any shape counts as its bounding box."""
    data = RawData()
    for path in files:
        try:
            document = json.loads(path.read_bytes())
            shapes, name = document["shapes"], str(document.get("imagePath") or path.stem)
        except _MALFORMED as error:
            data.problems.add(str(path), f"cannot be read as LabelMe JSON: {error!r}")
            continue
        boxes = []
        for number, shape in enumerate(shapes):
            origin = f"{path} shapes[{number}]"
            try:
                boxes.append(RawBox(_corners(shape), str(shape["label"]), origin))
            except _MALFORMED as error:
                data.problems.add(origin, f"needs a label and points ({error!r})")
        image: Path | bytes | None = tree.find(name, path) or tree.find(path.stem, path)
        if image is None:
            with suppress(TypeError, ValueError):
                image = base64.b64decode(document.get("imageData") or "", validate=True) or None
        data.add(tree.split(path) or "train", image, Path(name).name, boxes, path)
    return data


def _corners(shape: dict[str, Any]) -> Corners:
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if shape.get("shape_type") == "circle":
        (x, y), edge = points[0], points[1]
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, x + radius, y + radius
    return around(points)
