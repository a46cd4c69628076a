"""COCO JSON (https://cocodataset.org/#format-data): one file for a split; boxes are x, y, width, height."""

import json
from pathlib import Path
from typing import Any

from training.data.dataset import DataError
from training.detection.formats.raw import RawBox, RawData, from_sides
from training.detection.formats.tree import Tree

# What lies beside the boxes in COCO's own folders.
_LATER = ("captions", "keypoints", "panoptic", "stuff", "image_info", "unlabeled")
_EDGE = 4096


def find_coco(tree: Tree) -> list[Path]:
    """The files that may be of this format, those with boxes by their name first."""
    found = [path for path in tree.ending(".json") if _has_images(path)]
    return sorted(found, key=lambda path: any(word in path.name.lower() for word in _LATER))


def _has_images(path: Path) -> bool:
    """Whether a file has the key; what may be large is read as a whole only if its ends do not tell."""
    with path.open("rb") as file:
        head = file.read(_EDGE)
        file.seek(max(0, path.stat().st_size - _EDGE))
        if b'"images"' in head or b'"images"' in file.read():
            return True
    return b'"shapes"' not in head and path.stat().st_size > 2 * _EDGE and b'"images"' in path.read_bytes()


def read_coco(tree: Tree, files: list[Path]) -> RawData:
    """Reads the file of each split; see `training.detection.formats.read`."""
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
                classes |= _read_file(tree, path, split, document, data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: is no COCO JSON ({type(error).__name__}: {error}).") from error
    data.classes = tuple(classes)
    return data


def _read_file(tree: Tree, path: Path, split: str, document: dict[str, Any], data: RawData) -> dict[str, None]:
    """Adds the images of a file; returns its classes."""
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
