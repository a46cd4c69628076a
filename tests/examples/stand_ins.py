"""Small data sets in the layout of those that the notebooks of the course download."""

import io
import json
from pathlib import Path

import datasets
import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_digits

from examples.make_parquet import write_parquet
from tests.server import ROOT

_PER_CLASS = {"train": 10, "test": 5}
# Of examples/smear.jpg: left, top, width, height, and the class.
_CELLS = (((258, 167, 194, 193), 1), ((64, 72, 111, 107), 0), ((490, 305, 106, 102), 0), ((300, 30, 40, 38), 2))
_TOPICS = ("acq", "crude", "earn", "gold", "grain", "trade")


def write_stand_ins(folder: Path) -> Path:
    """Writes `cifar10`, `mnist`, `bccd` and `reuters-r52` below `folder`; returns it."""
    random = np.random.default_rng(0)
    labels = json.loads((ROOT / "models/classifier/1/manifest.json").read_text())["labels"]
    colours = dict(zip(labels, random.uniform(0, 255, (len(labels), 3)), strict=True))
    pictures = {
        (split, label): [random.normal(colours[label], 40, (32, 32, 3)) for _ in range(count)]
        for split, count in _PER_CLASS.items()
        for label in labels
    }
    write_parquet(_clone(folder / "CIFAR-10-images", pictures), folder / "cifar10", "img")

    images, digits = load_digits(return_X_y=True)
    pictures = {}
    for digit in range(10):
        own = [_enlarged(image) for image in images[digits == digit][:20]]
        pictures |= {("train", str(digit)): own[:12], ("test", str(digit)): own[12:]}
    write_parquet(_clone(folder / "mnist-pngs", pictures), folder / "mnist", "image")

    _write_cells(folder / "bccd")
    _write_articles(folder / "reuters-r52", random)
    return folder


def _clone(folder: Path, pictures: dict[tuple[str, str], list[np.ndarray]]) -> Path:
    for (split, label), images in pictures.items():
        (folder / split / label).mkdir(parents=True)
        for number, pixels in enumerate(images):
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / split / label / f"{number:04}.png")
    return folder


def _enlarged(digit: np.ndarray) -> np.ndarray:
    small = Image.fromarray((digit.reshape(8, 8) * 15.9).astype(np.uint8))
    return np.asarray(small.resize((28, 28), Image.Resampling.BILINEAR))


def _write_cells(folder: Path) -> None:
    """The smear as it is and mirrored, in parquet; see docs/reference/committed-models.md."""
    smear, width = Image.open(ROOT / "examples/smear.jpg").convert("RGB"), 640
    turned = (smear, ImageOps.mirror(smear))
    boxes = ([list(box) for box, _ in _CELLS], [[width - box[0] - box[2], *box[1:]] for box, _ in _CELLS])
    objects = {
        "bbox": datasets.List(datasets.List(datasets.Value("float32"), length=4)),
        "category": datasets.List(datasets.ClassLabel(names=["RBC", "WBC", "Platelets"])),
    }
    features = datasets.Features({"image": datasets.Image(), "objects": objects})
    rows = []
    for image, own in zip(turned, boxes, strict=True):
        file = io.BytesIO()
        image.save(file, "JPEG")
        content = {"bytes": file.getvalue(), "path": "cells.jpg"}
        rows.append({"image": content, "objects": {"bbox": own, "category": [label for _, label in _CELLS]}})
    folder.mkdir()
    for split in ("train", "validation", "test"):
        datasets.Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def _write_articles(folder: Path, random: np.random.Generator) -> None:
    """Each article has the words of its topic, and some that all have."""
    folder.mkdir()
    for split, count in (("train", 20), ("test", 8)):
        lines = ["Category\tText"]
        for number in range(count * len(_TOPICS)):
            topic = _TOPICS[number % len(_TOPICS)]
            words = [f"{topic}{index}" for index in random.integers(5, size=4)] + ["said", "mln", "the", "pct"]
            lines.append(f"{topic}\t{' '.join(random.permutation(words))} {number} {split}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
