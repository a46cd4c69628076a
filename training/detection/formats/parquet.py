"""Parquet with `image` and `objects` {`bbox` (x, y, width, height), `category`}, as `rishitdagli/cppe-5`.

Objects may have COCO's `iscrowd` too.
"""

from pathlib import Path
from typing import Any

import datasets

from training.data.dataset import DataError
from training.data.hub import load
from training.data.tables import split_of
from training.detection.formats.raw import RawBox, RawData, RawImage, from_sides


def read_hub(source: str) -> RawData:
    """Reads a hub id, or a folder of parquet files."""
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
        part = part.select_columns(["image", "objects"]).cast_column("image", datasets.Image(decode=False))
        data.splits[split_of(split) or split] = [
            _image(item, lookup, f"{source} [{split}] row {row}", f"{split}-{row}") for row, item in enumerate(part)
        ]
    return data


def _image(item: dict[str, Any], lookup: dict[Any, str], origin: str, name: str) -> RawImage:
    found, file = item["objects"], item["image"]
    crowds = found.get("iscrowd") or [0] * len(found["bbox"])
    boxes = tuple(
        RawBox(from_sides(*sides), lookup.get(value, str(value)), f"{origin} object {number}", crowd=bool(crowd))
        for number, (sides, value, crowd) in enumerate(zip(found["bbox"], found["category"], crowds, strict=True))
    )
    content = file["bytes"] if file["bytes"] is not None else Path(file["path"])
    return RawImage(content, Path(file["path"]).name if file["path"] else name, boxes)


def _inner(feature: Any) -> Any:
    """The element of a list feature; anything else unchanged."""
    feature = getattr(feature, "feature", feature)
    return feature[0] if isinstance(feature, list) else feature or {}
