"""Parquet with `image` and `objects` {`bbox` (x, y, width, height), `category`}, as `rishitdagli/cppe-5`.

Objects may have COCO's `iscrowd` too.
"""

from pathlib import Path
from typing import Any

import datasets

from training.data.dataset import DataError
from training.data.hub import load
from training.data.tables import split_of
from training.detection.formats.raw import RawBox, RawData, RawImage


def read_hub(source: str) -> RawData:
    """Reads a hub id, or a folder of parquet files."""
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
            found = item["objects"]
            crowds = found.get("iscrowd") or [0] * len(found["bbox"])
            boxes = tuple(
                RawBox(
                    (x, y, x + w, y + h), lookup.get(value, str(value)), f"{origin} object {number}", crowd=bool(crowd)
                )
                for number, ((x, y, w, h), value, crowd) in enumerate(
                    zip(found["bbox"], found["category"], crowds, strict=True)
                )
            )
            image = item["image"]
            content = image["bytes"] if image["bytes"] is not None else Path(image["path"])
            name = Path(image["path"]).name if image["path"] else f"{split}-{row}"
            images.append(RawImage(content, name, boxes))
        data.splits[split_of(split) or split] = images
    return data


def _inner(feature: Any) -> Any:
    """The element of a list feature; anything else unchanged."""
    feature = getattr(feature, "feature", feature)
    return feature[0] if isinstance(feature, list) else feature or {}
