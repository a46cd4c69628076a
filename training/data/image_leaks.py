"""Leaks in image files: a size, a format, a quality, a name or a constant border that nearly determines the class."""

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.data.dataset import Inspection, stratified_sample
from training.data.image_sources import Files, ImageItems
from training.data.lazy import Images
from training.data.leaks import FEWEST, Clue, held_out_scores

Labels = npt.NDArray[np.int64]

_SAMPLE, _DECODED = 1_500, 500
_ORIENTATION, _TURNED = 274, 5
# Accuracy on held-out images, and the least that it may be of what a constant answer leaves.
_ACCURACY, _GAIN = 0.98, 0.9
# A class of which one value tells: the fraction of its images, of the value's images, and the images that it needs.
_RECALL, _PRECISION, _FEWEST = 0.9, 0.98, 20
# Standard deviation of brightness (0 to 255) up to which pixels are one colour; JPEG changes them by as much.
_PLAIN, _VARIED = 3.0, 8.0
# Names that cameras and telephones give: their numbers follow the time.
_CAMERA = re.compile(r"(img|dsc|dscn|dscf|pxl|dji|gopr|mvimg)?[_-]?((?:20[0-9]{6})?[_-]?[0-9]{4,9})(?![0-9])", re.I)
_REMEDY = {
    "size": "bring the images of all classes to the same sizes",
    "format": "save the images of all classes in one format",
    "JPEG quality": "save the images of all classes with the same quality",
    "border": "cut the border off, or give it to all classes",
    "corner": "remove it, or give it to all classes",
}


def warn_of_image_leaks(
    inspection: Inspection, parts: Sequence[tuple[ImageItems, Images]], classes: Sequence[str]
) -> None:
    """Warns of what tells the classes of images beside their content; `parts` are items and decoded images of splits.

    Names are not read by a network: they are only a hint at different sources.
    """
    labels = np.concatenate([items.labels for items, _ in parts])
    chosen = stratified_sample(labels, _SAMPLE, seed=0)
    starts = np.cumsum([0, *(len(items) for items, _ in parts)])
    split = np.searchsorted(starts, chosen, side="right") - 1
    places = [(*parts[which], int(index - starts[which])) for which, index in zip(split, chosen, strict=True)]
    if len(chosen) < FEWEST:
        return
    files = [_facts_of_file(items, row) for items, _, row in places]
    for name in ("size", "format", "JPEG quality"):
        _warn(inspection, name, [facts.get(name) for facts in files], labels[chosen], classes)
    drawn = chosen[:_DECODED]
    pixels = [facts_of_pixels(np.asarray(images[row])) for _, images, row in places[:_DECODED]]
    for name in ("border", "corner"):
        _warn(inspection, name, [facts[name] for facts in pixels], labels[drawn], classes)
    _warn_of_names(inspection, [_name(items, row) for items, _, row in places], labels[chosen], classes)


def _facts_of_file(items: ImageItems, row: int) -> dict[str, Any]:
    """Size, format and quality as the header of the file states them."""
    index, files = int(items.indices[row]), items.files
    # Of a file, Pillow reads no more than the header.
    source: Any = files.paths[index] if isinstance(files, Files) else io.BytesIO(files.read(index))
    # Pillow's parsers raise whatever they meet; the image was decoded already.
    with contextlib.suppress(Exception), Image.open(source) as image:
        turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) >= _TURNED
        width, height = image.size[::-1] if turned else image.size
        tables: Any = getattr(image, "quantization", None)
        quality = f"quality {_quality(tables)}" if tables else None
        return {"size": f"{width} x {height}", "format": image.format, "JPEG quality": quality}
    return {}


def _quality(tables: Mapping[int, Sequence[int]]) -> int:
    """The quality (1 to 100) of the Independent JPEG Group's tables that are nearest to the first one of a file."""
    mean = sum(tables[min(tables)]) / 64
    scale = 100 * mean / 57.625  # the mean of the table for quality 50
    return round(100 - scale / 2 if scale <= 100 else 5000 / scale)


def facts_of_pixels(image: npt.NDArray[np.uint8]) -> dict[str, str]:
    """The colours of a constant border and of constant corners; empty for an image that is of one colour as a whole."""
    height, width = image.shape[:2]
    side = max(2, min(height, width) // 12)
    edges = (image[0], image[-1], image[:, 0], image[:, -1])
    if image[1:-1, 1:-1].std(axis=(0, 1)).max() <= _VARIED:
        return {"border": "", "corner": ""}
    corners = {
        "top left": image[:side, :side],
        "top right": image[:side, -side:],
        "bottom left": image[-side:, :side],
        "bottom right": image[-side:, -side:],
    }
    plain = {name: colour for name, part in corners.items() if (colour := _plain(part))}
    border = _plain(np.concatenate(edges))
    return {
        "border": border and f"of the colour {border}",
        # With a border of one colour, the corners say nothing new.
        "corner": "" if border else "; ".join(f"{name} of the colour {colour}" for name, colour in plain.items()),
    }


def _plain(pixels: npt.NDArray[np.uint8]) -> str:
    """The colour of pixels that have one, in steps of 32; empty if they have several."""
    pixels = pixels.reshape(-1, pixels.shape[-1])
    if pixels.std(axis=0).max() > _PLAIN:
        return ""
    steps = np.round(pixels.mean(axis=0) / 32) * 32
    return "/".join(f"{min(255, int(step))}" for step in steps)


def _warn(inspection: Inspection, what: str, values: Sequence[Any], labels: Labels, classes: Sequence[str]) -> None:
    if told := telling(values, labels, classes):
        inspection.warnings.append(
            f"possible leak: the {what} of the images tells the class: {told}. A network learns it instead of the "
            f"content, and new images differ: {_REMEDY[what]}"
        )


def telling(values: Sequence[Any], labels: Labels, classes: Sequence[str]) -> str:
    """Which classes the values tell, and by which value; empty if they tell none. None stands for no value."""
    given = [row for row, value in enumerate(values) if value is not None]
    known, codes = np.unique([str(values[row] or "none") for row in given], return_inverse=True)
    labels = labels[given]
    if len(known) < 2 or (np.bincount(labels) >= _FEWEST).sum() < 2:
        return ""
    counts = np.zeros((len(known), len(classes)), np.int64)
    np.add.at(counts, (codes, labels), 1)
    sizes, total = counts.sum(0), counts.sum()
    found = []
    for value, label in zip(*np.nonzero(counts), strict=True):
        count = counts[value, label]
        others = counts[value].sum() - count
        if count < _FEWEST or count < _RECALL * sizes[label] or count < _PRECISION * (count + others):
            continue
        if others / (count + others) <= (1 - _GAIN) * (1 - sizes[label] / total):
            share, rest = count / sizes[label], others / max(1, total - sizes[label])
            found.append(f"{str(known[value])!r} in {share:.0%} of {classes[label]!r} and {rest:.0%} of the others")
    if found:
        return "; ".join(found[:3]) + f"; and {len(found) - 3} more classes" * (len(found) > 3)
    score = _telling_score(codes, labels)
    return "" if score is None else f"alone, it gives the class of {score:.0%} of held-out images"


def _telling_score(values: npt.NDArray[Any], labels: Labels) -> float | None:
    """The accuracy of a clue on held-out images; None if it is too low, or not far above a constant answer's."""
    score = held_out_scores({"": Clue(values)}, labels)[""]
    constant = np.bincount(labels).max() / len(labels)
    return score if score >= _ACCURACY and 1 - score <= (1 - _GAIN) * (1 - constant) else None


def _name(items: ImageItems, row: int) -> str:
    where = items.files.where(int(items.indices[row]))
    return re.split(r"[/\\]", where.rstrip(")"))[-1].rpartition(".")[0]


def _warn_of_names(inspection: Inspection, names: Sequence[str], labels: Labels, classes: Sequence[str]) -> None:
    told = telling([_pattern(name, classes[label]) for name, label in zip(names, labels, strict=True)], labels, classes)
    numbers = [_camera_number(name) for name in names]
    numbered = not told and all(number is not None for number in numbers)
    if numbered and (score := _telling_score(np.array(numbers, dtype=np.float64), labels)) is not None:
        told = f"the numbers of the camera give the class of {score:.0%} of held-out images"
    if told:
        inspection.warnings.append(
            f"possible leak: the file names tell the class: {told}. A network does not read them, but if each class is "
            "from another source (a camera, a day, a place), it may learn the source: test it on images of a new one"
        )


def _pattern(name: str, label: str) -> str | None:
    """The letters of a name; None for one that is named after its class, as `cat.12` and `c_12` are."""
    letters = re.sub(r"[\W\d_]+", " ", name.casefold()).strip()
    words = re.sub(r"[\W\d_]+", " ", label.casefold()).split()
    joined = letters.replace(" ", "")
    if joined and any(word in joined or joined in word for word in (*words, "".join(words))):
        return None
    return letters[:20]


def _camera_number(name: str) -> int | None:
    match = _CAMERA.match(name)
    return int(re.sub(r"[^0-9]", "", match[2])) if match and (match[1] or match[2].startswith("20")) else None
