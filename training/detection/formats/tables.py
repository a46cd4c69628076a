"""Boxes in tables: a row for each box in CSV or a spreadsheet, or a row for each image in parquet."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import datasets

from training.data.contents import file_key
from training.data.dataset import DataError, Inspection
from training.data.hub import load
from training.data.inspection import Problems
from training.data.tables import DELIMITED, Table, read_file, split_of
from training.detection.formats.raw import Corners, RawBox, RawData, RawImage, Tree, from_sides

_IMAGE = ("filename", "file", "filepath", "image", "imageid", "imagename", "imagepath", "img", "path", "name")
_LABEL = ("class", "label", "labelname", "classname", "category", "categoryname", "classid", "name")
_CORNERS = ("xmin ymin xmax ymax", "x1 y1 x2 y2", "left top right bottom", "x0 y0 x1 y1")
_SIDES = ("x y width height", "x y w h", "left top width height")

_Columns = tuple[str, str | None, Callable[..., Corners], tuple[str, ...]]


def find_boxes_tables(tree: Tree) -> list[Path]:
    """The tables with columns of this format."""
    found = []
    for path in tree.ending(*(suffix for suffix in DELIMITED if suffix != ".txt"), ".xlsx"):
        try:
            table = read_file(path, Inspection(), Problems(), rows=2)
        except DataError:  # a table of something else
            continue
        if _columns(table):
            found.append(path)
    return found


def read_boxes_tables(tree: Tree, files: list[Path]) -> RawData:
    """Reads a table for each split."""
    data = RawData()
    for path in files:
        table = read_file(path, data.inspection, data.problems)
        columns = _columns(table)
        if columns is None:
            continue
        image, label, to_corners, coordinates = columns
        labels = table.values(label) if label else repeat("object")
        cells = zip(*(table.values(name) for name in coordinates), strict=True)
        boxes: dict[str, list[RawBox]] = {}
        for row, (name, kind, values) in enumerate(zip(table.values(image), labels, cells, strict=False)):
            origin = f"{path.parent / table.where(row)}"
            if not name:
                data.problems.add(origin, "names no image")
                continue
            here = boxes.setdefault(str(name), [])
            if not any(values):  # an image without an object
                continue
            try:
                here.append(RawBox(to_corners(*values), str(kind).strip(), origin))
            except (TypeError, ValueError):
                data.problems.add(origin, f"has no box, but {', '.join(map(str, values))}")
        relative = all(0 <= value <= 1 for group in boxes.values() for box in group for value in box.corners)
        for name, group in boxes.items():
            group = [replace(box, relative=relative) for box in group]
            data.add(tree.split_of_file(path) or "train", tree.find(name, path), name, group, path)
    return data


def _columns(table: Table) -> _Columns | None:
    """The columns of the image and of the class, what makes corners of others, and which these are."""
    names = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in table.columns}
    image = next((names[name] for name in _IMAGE if name in names), None)
    label = next((names[name] for name in _LABEL if name in names and names[name] != image), None)
    if image is None:
        return None
    for known, to_corners in ((_CORNERS, _from_corners), (_SIDES, _from_sides)):
        for four in known:
            for prefix in ("", "bbox", "box"):
                columns = [prefix + name for name in four.split()]
                if names.keys() >= set(columns):
                    return image, label, to_corners, tuple(names[name] for name in columns)
    # `[x, y, width, height]` in one cell, as in COCO.
    return (image, label, lambda cell: _from_sides(*json.loads(cell)), (names["bbox"],)) if "bbox" in names else None


def _from_corners(*values: str) -> Corners:
    x_min, y_min, x_max, y_max = map(float, values)
    return x_min, y_min, x_max, y_max


def _from_sides(*values: str) -> Corners:
    return from_sides(*map(float, values))


def read_hub(source: str) -> RawData:
    """Reads a hub id or a folder of parquet files, as `rishitdagli/cppe-5`.

    The columns are `image` and `objects` {`bbox` (x, y, width, height), `category`, and optionally COCO's `iscrowd`}.
    """
    loaded = load(source, source)
    first = next(iter(loaded.values()))
    objects = _inner(first.features.get("objects"))
    if "image" not in first.features or not {"bbox", "category"} <= set(objects):
        raise DataError(f"{source}: needs the columns image and objects (with bbox and category).")
    names: list[Any] | None = getattr(_inner(objects["category"]), "names", None)
    lookup = dict(enumerate(names or []))
    if names is None:
        values = {value for part in loaded.values() for row in part["objects"] for value in row["category"]}
        lookup = {value: str(value) for value in sorted(values)}
    data = RawData(tuple(lookup.values()))
    for split, part in loaded.items():
        files = [file_key(file["filename"]) for file in part.cache_files]
        part = part.select_columns(["image", "objects"]).cast_column("image", datasets.Image(decode=False))
        images = data.splits[split_of(split) or split] = []
        for row, item in enumerate(part):
            found, file, origin = item["objects"], item["image"], f"{source} [{split}] row {row}"
            crowds = found.get("iscrowd") or [0] * len(found["bbox"])
            each = zip(found["bbox"], found["category"], crowds, strict=True)
            boxes = tuple(
                RawBox(
                    from_sides(*sides), lookup.get(value, str(value)), f"{origin} object {number}", crowd=bool(crowd)
                )
                for number, (sides, value, crowd) in enumerate(each)
            )
            content = file["bytes"] if file["bytes"] is not None else Path(file["path"])
            name = Path(file["path"]).name if file["path"] else f"{split}-{row}"
            images.append(RawImage(content, name, boxes, f"{files} image {row}".encode() if files else None))
    return data


def _inner(feature: Any) -> Any:
    """The element of a list feature; anything else unchanged."""
    feature = getattr(feature, "feature", feature)
    return feature[0] if isinstance(feature, list) else feature or {}
