"""LabelMe (https://github.com/wkentaro/labelme): a JSON file of shapes for each image."""

import base64
import binascii
import json
import math
from pathlib import Path
from typing import Any

from training.detection.formats.raw import RawBox, RawData, RawImage
from training.detection.formats.tree import Tree


def find_labelme(tree: Tree) -> list[Path]:
    """The files that may be of this format."""
    found = []
    for path in tree.ending(".json"):
        with path.open("rb") as file:
            # The image itself may follow, so only the beginning is read; the shapes stand before it.
            if b'"shapes"' in file.read(4096):
                found.append(path)
    return found


def read_labelme(tree: Tree, files: list[Path]) -> RawData:
    """Reads a JSON file for each image; any shape counts as its bounding box.

    See `training.detection.formats.read`.
    """
    data = RawData()
    for path in files:
        try:
            document = json.loads(path.read_bytes())
            shapes, name = document["shapes"], str(document.get("imagePath") or path.stem)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            data.problems.add(str(path), f"cannot be read as LabelMe JSON: {error!r}")
            continue
        image = tree.find(name, path) or tree.find(path.stem, path) or _embedded(document)
        if image is None:
            data.problems.add(str(path), f"the image {name} is neither beside it nor in a folder near it")
            continue
        boxes = []
        for number, shape in enumerate(shapes):
            origin = f"{path} shapes[{number}]"
            try:
                boxes.append(RawBox(_corners(shape), str(shape["label"]), origin))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                data.problems.add(origin, f"needs a label and points ({error!r})")
        data.add(tree.split(path) or "train", RawImage(image, Path(name).name, tuple(boxes)))
    return data


def _corners(shape: dict[str, Any]) -> tuple[float, float, float, float]:
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if shape.get("shape_type") == "circle":
        (x, y), edge = points[0], points[1]
        radius = math.dist((x, y), edge)
        return x - radius, y - radius, x + radius, y + radius
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _embedded(document: dict[str, Any]) -> bytes | None:
    try:
        return base64.b64decode(document.get("imageData") or "", validate=True) or None
    except (binascii.Error, TypeError, ValueError):
        return None
