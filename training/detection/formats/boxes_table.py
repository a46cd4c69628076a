"""A table with a row for each box, as CSV or a spreadsheet: the image's file, the corners, the class."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.tables import DELIMITED, Table, read_file
from training.detection.formats.raw import RawBox, RawData, RawImage
from training.detection.formats.tree import Tree

_IMAGE = ("filename", "file", "filepath", "image", "imageid", "imagename", "imagepath", "img", "path", "name")
_LABEL = ("class", "label", "labelname", "classname", "category", "categoryname", "classid", "name")
# The names of the coordinates, and what makes corners of them.
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"),
    ("x0", "y0", "x1", "y1"),
)  # fmt: skip
_SIDES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))

Corners = tuple[float, float, float, float]


def find_boxes_tables(tree: Tree) -> list[Path]:
    """The files that may be of this format, by the names of their columns."""
    found = []
    for path in tree.ending(*DELIMITED, ".xlsx"):
        if path.suffix.lower() == ".txt":
            continue
        try:
            table = read_file(path, Inspection(), Problems(), rows=2)
        except DataError:  # a table of something else
            continue
        if table and _columns(table):
            found.append(path)
    return found


def read_boxes_tables(tree: Tree, files: list[Path]) -> RawData:
    """Reads a table for each split; see `training.detection.formats.read`."""
    data = RawData()
    for path in files:
        table = read_file(path, data.inspection, data.problems)
        columns = _columns(table) if table else None
        if table is None or columns is None:
            continue
        split = tree.split_of_file(path) or "train"
        boxes: dict[str, list[RawBox]] = {}
        image, label, corners, coordinates = columns
        cells = zip(
            table.values(image),
            table.values(label) if label else iter(lambda: "object", None),
            zip(*(table.values(name) for name in coordinates), strict=True),
            strict=False,
        )
        for row, (name, kind, values) in enumerate(cells):
            origin = f"{path.parent / table.where(row)}"
            if not name:
                data.problems.add(origin, "names no image")
                continue
            here = boxes.setdefault(str(name), [])
            if not any(values):  # an image without an object
                continue
            try:
                here.append(RawBox(corners(values), str(kind).strip(), origin))
            except (TypeError, ValueError):
                data.problems.add(origin, f"has no box, but {', '.join(map(str, values))}")
        relative = _relative(boxes)
        for name, group in boxes.items():
            found = tree.find(name, path)
            if found is None:
                data.problems.add(str(path), f"the image {name} is neither beside it nor in a folder near it")
                continue
            data.add(split, RawImage(found, found.name, tuple(_as(box, relative) for box in group)))
    return data


def _columns(table: Table) -> tuple[str, str | None, Callable[[tuple[str, ...]], Corners], tuple[str, ...]] | None:
    """The columns of the image and of the class, what makes corners of others, and which these are."""
    names: Mapping[str, str] = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in table.columns}
    image = next((names[name] for name in _IMAGE if name in names), None)
    label = next((names[name] for name in _LABEL if name in names and names[name] != image), None)
    if image is None:
        return None
    for known, make in ((_CORNERS, _from_corners), (_SIDES, _from_sides)):
        for four in known:
            for prefix in ("", "bbox", "box"):
                if all(prefix + name in names for name in four):
                    return image, label, make, tuple(names[prefix + name] for name in four)
    return (image, label, _from_list, (names["bbox"],)) if "bbox" in names else None


def _from_corners(values: tuple[str, ...]) -> Corners:
    x_min, y_min, x_max, y_max = (float(value) for value in values)
    return x_min, y_min, x_max, y_max


def _from_sides(values: tuple[str, ...]) -> Corners:
    x, y, width, height = (float(value) for value in values)
    return x, y, x + width, y + height


def _from_list(values: tuple[str, ...]) -> Corners:
    """`[x, y, width, height]` in one cell, as COCO has it."""
    return _from_sides(tuple(json.loads(values[0])))


def _relative(boxes: Mapping[str, list[RawBox]]) -> bool:
    """Whether all coordinates are fractions of the image's sides."""
    return all(0 <= value <= 1 for group in boxes.values() for box in group for value in box.corners)


def _as(box: RawBox, relative: bool) -> RawBox:
    return RawBox(box.corners, box.label, box.origin, relative) if relative else box
