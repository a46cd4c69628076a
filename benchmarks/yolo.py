"""Compares the boxes of an adopted YOLO export with those of Ultralytics, for the same pictures and the same file.

Needs a running server, and an environment with `ultralytics` and `onnxruntime`; for `--tensors` with
`tritonclient[http]` too.

python -m benchmarks.yolo yolo11n.onnx pictures --name yolo --tensors yolo-tensors
"""

import argparse
import json
import mimetypes
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ultralytics import YOLO

# Boxes with scores this near to the threshold may miss it on one side only.
_EDGE = 1.05


class Box(NamedTuple):
    """A box in pixels of the picture, its score and the index of its label."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    score: float
    label: int


Find = Callable[[Path], list[Box]]


def iou(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    height = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((each.x_max - each.x_min) * (each.y_max - each.y_min) for each in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0


def by_ultralytics(model: YOLO, confidence: float) -> Find:
    """Ultralytics' prediction; `model` may be a file or the address of a served one."""

    def find(picture: Path) -> list[Box]:
        (result,) = model.predict(picture, conf=confidence, rect=False, verbose=False)
        boxes = result.boxes
        return [
            Box._make([*corners, score, int(label)])
            for corners, score, label in zip(boxes.xyxy.tolist(), boxes.conf.tolist(), boxes.cls.tolist(), strict=True)
        ]

    return find


def by_service(url: str, name: str, confidence: float) -> Find:
    """The answers at /v1/detect."""

    def find(picture: Path) -> list[Box]:
        request = urllib.request.Request(
            f"{url}/v1/detect?model={name}&confidence={confidence}",
            picture.read_bytes(),
            {"Content-Type": mimetypes.guess_type(picture)[0] or "image/jpeg"},
        )
        with urllib.request.urlopen(request) as response:
            found = json.load(response)["results"][0]["boxes"]
        return [Box(label=box["index"], **{side: box[side] for side in Box._fields[:5]}) for box in found]

    return find


def farthest(ones: Sequence[Box], others: Sequence[Box]) -> tuple[float, float]:
    """The smallest overlap of a box with its partner of the same label, and the largest difference of their scores."""
    overlap, difference = 1.0, 0.0
    for one in ones:
        partner = max(
            (each for each in others if each.label == one.label), key=lambda each: iou(one, each), default=None
        )
        if partner is None:
            return 0.0, 1.0
        overlap, difference = min(overlap, iou(one, partner)), max(difference, abs(one.score - partner.score))
    return overlap, difference


def compare(wanted: Find, found: Find, pictures: Sequence[Path], confidence: float) -> str:
    """How two ways to find boxes agree, in a line."""
    count, overlap, difference = 0, 1.0, 0.0
    for picture in pictures:
        want, got = wanted(picture), found(picture)
        count += len(want)
        for ones, others in ((want, got), (got, want)):
            clear = [box for box in ones if box.score > confidence * _EDGE]
            least, most = farthest(clear, others)
            overlap, difference = min(overlap, least), max(difference, most)
    return f"{count} boxes; they overlap by at least {overlap:.3f}, scores differ by at most {difference:.4f}"


def main() -> None:
    """Reads the command line and prints a line for each of the two ways to ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path, metavar="FILE", help="the ONNX file that was adopted")
    parser.add_argument("pictures", type=Path, metavar="FOLDER", help="pictures")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the server")
    parser.add_argument("--name", help="of the model that was adopted with --task detection")
    parser.add_argument("--tensors", metavar="NAME", help="of the model that was adopted as plain tensors")
    parser.add_argument("--confidence", type=float, default=0.25, help="the lowest score that counts")
    options = parser.parse_args()
    pictures = sorted(path for path in options.pictures.iterdir() if path.is_file())
    local = by_ultralytics(YOLO(options.export, task="detect"), options.confidence)
    ways = {}
    if options.name:
        ways["/v1/detect"] = by_service(options.url, options.name, options.confidence)
    if options.tensors:
        ways["YOLO(URL)"] = by_ultralytics(YOLO(f"{options.url}/{options.tensors}", task="detect"), options.confidence)
    for way, found in ways.items():
        print(f"{way}: {compare(local, found, pictures, options.confidence)}")


if __name__ == "__main__":
    main()
