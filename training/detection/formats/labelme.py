"""LabelMe (https://github.com/wkentaro/labelme): a JSON file of shapes for each image."""

import base64
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from training.detection.formats.raw import Corners, RawBox, RawData, around
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
        boxes = []
        for number, shape in enumerate(shapes):
            origin = f"{path} shapes[{number}]"
            try:
                boxes.append(RawBox(_corners(shape), str(shape["label"]), origin))
            except (KeyError, TypeError, ValueError, IndexError) as error:
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
