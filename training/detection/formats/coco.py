"""COCO JSON (https://cocodataset.org/#format-data): one file for a split; boxes are x, y, width, height."""

import json
from pathlib import Path
from typing import Any

from training.data.dataset import DataError
from training.detection.formats.raw import RawBox, RawData, RawImage
from training.detection.formats.tree import Tree

# What lies beside the boxes in COCO's own folders.
_LATER = ("captions", "keypoints", "panoptic", "stuff", "image_info", "unlabeled")


def find_coco(tree: Tree) -> list[Path]:
    """The files that may be of this format, those with boxes by their name first."""
    found = [path for path in tree.ending(".json") if '"images"' in _head_and_tail(path)]
    return sorted(found, key=lambda path: any(word in path.name.lower() for word in _LATER))


def _head_and_tail(path: Path, size: int = 4096) -> str:
    """Where the keys of a COCO file stand; nothing else is read of what may be a large file."""
    with path.open("rb") as file:
        head = file.read(size)
        file.seek(max(0, path.stat().st_size - size))
        text = (head + file.read()).decode(errors="replace")
    if '"images"' not in text and b'"shapes"' not in head and path.stat().st_size > 2 * size:
        return path.read_text(errors="replace")
    return text


def read_coco(tree: Tree, files: list[Path]) -> RawData:
    """Reads the file of each split; see `training.detection.formats.read`."""
    data = RawData()
    classes: dict[str, None] = {}
    used: dict[str, Path] = {}
    for path in files:
        split = tree.split_of_file(path) or "train"
        document = _parsed(path)
        if "categories" not in document or not _has_boxes(document):
            if path is not files[-1] or used:
                data.inspection.notes.append(f"{path.name}: has no boxes, so it is not used")
                continue
            raise DataError(f"{path}: is no COCO JSON with boxes (it needs images, categories and annotations).")
        if split in used:
            data.inspection.notes.append(f"{path.name}: not used, since {used[split].name} is the {split} split")
            continue
        used[split] = path
        classes |= _read_file(tree, path, split, document, data)
    data.classes = tuple(classes)
    return data


def _parsed(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path}: is no COCO JSON ({type(error).__name__}: {error}).") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: is no COCO JSON, but a {type(document).__name__}.")
    return document


def _has_boxes(document: dict[str, Any]) -> bool:
    annotations = document.get("annotations") or []
    return not annotations or any("bbox" in annotation for annotation in annotations[:100])


def _read_file(tree: Tree, path: Path, split: str, document: dict[str, Any], data: RawData) -> dict[str, None]:
    """Adds the images of a file; returns its classes."""
    try:
        names = {category["id"]: str(category["name"]) for category in document["categories"]}
        files = {image["id"]: str(image["file_name"]) for image in document["images"]}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: is no COCO JSON ({type(error).__name__}: {error}).") from error
    boxes: dict[Any, list[RawBox]] = {image: [] for image in files}
    for number, annotation in enumerate(document.get("annotations") or []):
        origin = f"{path} annotations[{number}]"
        try:
            x, y, w, h = (float(value) for value in annotation["bbox"])
            category, image = annotation["category_id"], annotation["image_id"]
        except (KeyError, TypeError, ValueError) as error:
            data.problems.add(origin, f"needs bbox, category_id and image_id ({error!r})")
            continue
        if image not in boxes:
            data.problems.add(origin, f"image_id {image} is none of the images")
            continue
        label, crowd = names.get(category, f"category_id {category}"), bool(annotation.get("iscrowd"))
        boxes[image].append(RawBox((x, y, x + w, y + h), label, origin, crowd=crowd))
    for image, name in files.items():
        found = tree.find(name, path)
        if found is None:
            data.problems.add(str(path), f"the image {name} is neither beside it nor in a folder near it")
        else:
            data.add(split, RawImage(found, name, tuple(boxes[image])))
    # Roboflow's files begin with a class "none" that groups the others and that no box has.
    labels = {box.label for group in boxes.values() for box in group}
    parents = {category.get("supercategory") for category in document["categories"]}
    return {name: None for name in names.values() if name in labels or name not in parents}
