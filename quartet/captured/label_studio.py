"""Captured items as tasks of Label Studio, with the model's answers as predictions (labelstud.io/guide/predictions).

The labelling interface needs the tags `<Image name="item" value="$item"/>` (`Text` for texts, `Table` for rows) and
`<Choices name="label" toName="item">`, `<RectangleLabels …>` or `<Number …>` with the same names.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from quartet.captured.items import BOXES, CLASSES, NUMBER, Captured

_NAMES = {"from_name": "label", "to_name": "item"}


def to_task(each: Captured, truth: Any, size_of: Callable[[Captured], tuple[int, int]]) -> dict[str, Any]:
    """A task.

    Args:
        each: the item. An image becomes a part of the task, so that no server has to deliver it.
        truth: becomes an annotation, if it is known.
        size_of: width and height of an image as it was kept.
    """
    item = each.item
    image = item.media_type.startswith("image/")
    facts = {"request": item.request, "index": item.index, "time": item.time, "version": item.version}
    task: dict[str, Any] = {"data": {"item": _shown(each, image), **facts}}
    score = item.answer["labels"][0]["probability"] if item.answer.get("labels") else None
    results = [] if each.answered is None else _results(each, each.answered, size_of)
    task["predictions"] = [{"model_version": f"{item.model}/{item.version}", "score": score, "result": results}]
    if truth is not None:
        task["annotations"] = [{"result": _results(each, truth, size_of)}]
    return task


def _shown(each: Captured, image: bool) -> Any:
    if image:
        return f"data:{each.item.media_type};base64,{base64.b64encode(each.item.content).decode()}"
    record = json.loads(each.item.content)
    return record["text"] if record.keys() == {"text"} else record


def _results(each: Captured, value: Any, size_of: Callable[[Captured], tuple[int, int]]) -> list[dict[str, Any]]:
    match each.kind:
        case kind if kind == CLASSES:
            return [{**_NAMES, "type": "choices", "value": {"choices": [value]}}]
        case kind if kind == NUMBER:
            return [{**_NAMES, "type": "number", "value": {"number": value}}]
        case kind if kind == BOXES:
            width, height = size_of(each)
            return [_rectangle(box, each.item.answer, width, height) for box in value]
    return []


def _rectangle(box: dict[str, Any], sent: Any, width: int, height: int) -> dict[str, Any]:
    """A box; Label Studio counts in percent of the image."""
    x, y = 100 * box["x_min"] / sent["width"], 100 * box["y_min"] / sent["height"]
    right, bottom = 100 * box["x_max"] / sent["width"], 100 * box["y_max"] / sent["height"]
    value = {"x": x, "y": y, "width": right - x, "height": bottom - y, "rotation": 0, "rectanglelabels": [box["label"]]}
    return {**_NAMES, "type": "rectanglelabels", "original_width": width, "original_height": height, "value": value}
