"""Captured items in the layouts that training reads."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from quartet.captured.items import BOXES, CLASSES, NUMBER, Captured
from quartet.captured.label_studio import to_task
from quartet.extras import needs

_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png"}
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
# Of a name in the file systems that people use.
_LONGEST_NAME = 200


class Nothing(Exception):
    """Nothing can be written; the message says why."""


@dataclass(slots=True)
class Summary:
    """What was written.

    Attributes:
        written: items.
        left_out: those without feedback.
    """

    written: int = 0
    left_out: int = 0

    def __str__(self) -> str:
        items = f"{self.written} {'item' if self.written == 1 else 'items'}"
        return items + (f"; {self.left_out} without feedback were left out" if self.left_out else "")


def export(items: Iterable[Captured], output: Path, layout: str | None, *, unchecked: bool) -> Summary:
    """Writes items of one model.

    Args:
        items: to write.
        output: a new file for `csv`, `jsonl` and `label-studio`, a new or empty folder for the others.
        layout: `folders`, `parquet`, `coco`, `csv`, `jsonl` or `label-studio`; None for the one that fits the items.
        unchecked: whether the model's own answer stands for the truth of items without feedback.

    Raises:
        Nothing: there is no item to write, the layout does not fit the items, or the output is there already.
    """
    items = iter(items)
    first = next(items, None)
    if first is None:
        raise Nothing("there are no such items.")
    kind = _kind(first, layout or _usual(first))
    if output.exists() and (not output.is_dir() or any(output.iterdir()) or kind in _FILES):
        raise Nothing(f"{output} is there already: name a new one.")
    summary = Summary()
    chosen = _chosen(_chain(first, items), summary, unchecked, with_all=kind == "label-studio")
    if kind in _FILES:
        output.parent.mkdir(parents=True, exist_ok=True)
        _FILES[kind](chosen, output)
    else:
        output.mkdir(parents=True, exist_ok=True)
        _FOLDERS[kind](chosen, output)
    if not summary.written:
        raise Nothing("none of the items has feedback that says what is right: give some, or add --unchecked.")
    return summary


def _usual(first: Captured) -> str:
    if not first.item.media_type.startswith("image/"):
        return "csv"
    return "coco" if first.kind == BOXES else "folders"


def _kind(first: Captured, layout: str) -> str:
    images = first.item.media_type.startswith("image/")
    fits = {
        "folders": images and first.kind != BOXES,
        "parquet": images and first.kind != BOXES,
        "coco": images and first.kind == BOXES,
        "csv": not images,
        "jsonl": not images,
        "label-studio": True,
    }
    if not fits[layout]:
        usable = ", ".join(name for name, fit in fits.items() if fit)
        raise Nothing(f"the layout {layout} does not fit items of {first.item.operation}: use {usable}.")
    return layout


def _chain(first: Captured, rest: Iterator[Captured]) -> Iterator[Captured]:
    yield first
    yield from rest


def _chosen(
    items: Iterable[Captured], summary: Summary, unchecked: bool, *, with_all: bool
) -> Iterator[tuple[Captured, Any]]:
    """The items to write, each with its truth."""
    for each in items:
        truth = each.truth
        if truth is None and unchecked and each.right is not False:
            truth = each.answered
        labelled = each.kind in (CLASSES, BOXES, NUMBER)
        if truth is None and labelled and not with_all:
            summary.left_out += 1
            continue
        summary.written += 1
        yield each, truth


def _facts(each: Captured) -> dict[str, Any]:
    """Where an item comes from, and what the model said."""
    item = each.item
    return {
        "request": item.request, "index": item.index, "time": item.time, "model": item.model, "version": item.version,
        "variant": item.variant, "strategy": item.strategy, "typicality": item.answer.get("typicality"),
        "answer": each.answered,
    }  # fmt: skip


def _name(each: Captured) -> str:
    """A file name; clients choose the IDs of requests, so those are no part of it."""
    return f"{each.item.number:08d}{_SUFFIXES[each.item.media_type]}"


def _as_folders(chosen: Iterable[tuple[Captured, Any]], output: Path) -> None:
    """A folder of images for each class, and what is known of each image in `items.jsonl` beside them."""
    with (output / "items.jsonl").open("w", encoding="utf-8") as facts:
        for each, truth in chosen:
            folder = output / ("images" if truth is None else _folder(str(truth)))
            folder.mkdir(exist_ok=True)
            path = folder / _name(each)
            path.write_bytes(each.item.content)
            _write_line(facts, {"file": str(path.relative_to(output)), **_facts(each), "truth": truth})


def _folder(label: str) -> str:
    """The name of a class's folder; labels come from clients."""
    if label.startswith(".") or "/" in label or "\\" in label or len(label.encode()) > _LONGEST_NAME:
        raise Nothing(f"the label {label!r} cannot be the name of a folder: use --layout parquet.")
    return label


def _as_parquet(chosen: Iterable[tuple[Captured, Any]], output: Path) -> None:
    with needs("score"):
        from quartet.captured.parquet import write

    rows = (
        {**_facts(each), "image": {"bytes": each.item.content, "path": _name(each)}, "label": truth}
        for each, truth in chosen
    )
    write(rows, output / "train.parquet")


def _as_coco(chosen: Iterable[tuple[Captured, Any]], output: Path) -> None:
    """`annotations.json` as COCO describes it, and `images/`."""
    (output / "images").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for each, boxes in chosen:
        name = _name(each)
        (output / "images" / name).write_bytes(each.item.content)
        width, height = size_of(each)
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height, **_facts(each)})
        for box in scaled(each, boxes):
            x, y, right, bottom = (box[corner] for corner in _CORNERS)
            annotation = {"id": len(annotations) + 1, "image_id": len(images), "iscrowd": 0}
            annotation["category_id"] = categories.setdefault(box["label"], len(categories) + 1)
            annotations.append(
                {**annotation, "bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y)}
            )
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    document = {"images": images, "annotations": annotations, "categories": listed}
    (output / "annotations.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def size_of(each: Captured) -> tuple[int, int]:
    """Width and height of an image as it was kept, in pixels."""
    with Image.open(io.BytesIO(each.item.content)) as image:
        return image.size


def scaled(each: Captured, boxes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Boxes in pixels of the image as it was sent, in those of the image as it was kept."""
    scale = size_of(each)[0] / each.item.answer["width"]
    return [{**box, **{corner: box[corner] * scale for corner in _CORNERS}} for box in boxes]


def _as_csv(chosen: Iterable[tuple[Captured, Any]], output: Path) -> None:
    with output.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None
        for row in map(_record, chosen):
            if writer is None:
                writer = csv.DictWriter(file, list(row), extrasaction="ignore")
                writer.writeheader()
            writer.writerow(row)


def _as_jsonl(chosen: Iterable[tuple[Captured, Any]], output: Path) -> None:
    with output.open("w", encoding="utf-8") as file:
        for row in map(_record, chosen):
            _write_line(file, row)


def _record(each_and_truth: tuple[Captured, Any]) -> dict[str, Any]:
    """A row of a table: the columns of the input, and the one that is predicted."""
    each, truth = each_and_truth
    return {**json.loads(each.item.content), each.item.answer.get("target", "label"): truth}


def _as_label_studio(chosen: Iterable[tuple[Captured, Any]], output: Path) -> None:
    with output.open("w", encoding="utf-8") as file:
        before = "["
        for each, truth in chosen:
            file.write(before + "\n" + json.dumps(to_task(each, truth, size_of), ensure_ascii=False))
            before = ","
        file.write("\n]\n")


def _write_line(file: Any, row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")


_Write = Callable[[Iterable[tuple[Captured, Any]], Path], None]
_FOLDERS: dict[str, _Write] = {"folders": _as_folders, "parquet": _as_parquet, "coco": _as_coco}
_FILES: dict[str, _Write] = {"csv": _as_csv, "jsonl": _as_jsonl, "label-studio": _as_label_studio}
