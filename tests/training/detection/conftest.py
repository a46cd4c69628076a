import io
import json

import datasets
import numpy as np
import pytest
import torch
from rich.console import Console

from service.tasks.detection.letterbox import Letterbox
from tests.pictures import encode
from training.detection.data import DetectionData, DetectionSplit
from training.detection.network import Detector
from training.detection.options import NetworkSettings

CLASSES = ("red", "blue")
SIZE = (64, 96)


@pytest.fixture(autouse=True, scope="module")
def few_resamples():
    """Intervals from a few draws, which take a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.detection.evaluation.RESAMPLES", 20)
        yield


def scene(seed, height=64, width=96):
    """One to three squares, red or blue, on noise."""
    random = np.random.default_rng(seed)
    pixels = random.integers(90, 140, (height, width, 3), dtype=np.uint8)
    boxes, labels = [], []
    for slot in random.permutation(3)[: random.integers(1, 4)]:
        side = random.integers(14, 26)
        x = slot * width // 3 + random.integers(0, width // 3 - side)
        y = random.integers(0, height - side)
        label = int(random.integers(2))
        pixels[y : y + side, x : x + side] = ((220, 30, 30), (30, 30, 220))[label]
        boxes.append((x, y, x + side, y + side))
        labels.append(label)
    return pixels, np.array(boxes, np.float32), np.array(labels, np.int64)


def split(seeds):
    images, boxes, labels = zip(*(scene(seed) for seed in seeds), strict=True)
    frames = (Letterbox.of(*SIZE, *SIZE),) * len(images)
    return DetectionSplit(np.stack(images), boxes, labels, frames, tuple(f"{seed}.png" for seed in seeds))


@pytest.fixture(scope="session")
def squares():
    """The three splits of a task that a tiny detector learns in seconds."""
    return DetectionData(
        "squares", CLASSES, split(range(48)), split(range(100, 116)), split(range(200, 216)), "sha256:0"
    )


def tiny(**settings):
    """A network that takes no time."""
    small = {"backbone": "test_efficientnet", "weights": "none", "width": 16, "depth": 1, "freeze": 0}
    return NetworkSettings(**small | settings)


@pytest.fixture(scope="session")
def tiny_detector():
    def build(seed=0, size=SIZE, classes=2, width=16, depth=1):
        torch.manual_seed(seed)
        return Detector(tiny(width=width, depth=depth), size, classes)

    return build


@pytest.fixture
def source(tmp_path):
    """A folder of hub-style parquet with a training, a validation and a test split of the squares."""
    return write_parquet(tmp_path / "data", train=range(24), validation=range(100, 106), test=range(200, 206))


def write_parquet(folder, **splits):
    folder.mkdir(parents=True)
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "objects": {
                "bbox": datasets.List(datasets.List(datasets.Value("float32"), length=4)),
                "category": datasets.List(datasets.ClassLabel(names=list(CLASSES))),
            },
        }
    )
    for name, seeds in splits.items():
        rows = {"image": [], "objects": []}
        for seed in seeds:
            pixels, boxes, labels = scene(seed)
            rows["image"].append({"bytes": encode(pixels), "path": None})
            rows["objects"].append({"bbox": xywh(boxes), "category": labels.tolist()})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return str(folder)


def xywh(boxes):
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1).tolist()


def write_coco(folder, **splits):
    """COCO JSON as Roboflow lays it out."""
    for name, seeds in splits.items():
        (folder / name).mkdir(parents=True)
        images, annotations = [], []
        for seed in seeds:
            pixels, boxes, labels = scene(seed)
            (folder / name / f"{seed}.png").write_bytes(encode(pixels))
            images.append({"id": seed, "file_name": f"{seed}.png", "height": 64, "width": 96})
            for box, label in zip(xywh(boxes), labels.tolist(), strict=True):
                annotation = {"id": len(annotations), "image_id": seed, "category_id": label + 1, "bbox": box}
                annotations.append({**annotation, "area": box[2] * box[3], "iscrowd": 0})
        categories = [{"id": 0, "name": "shapes", "supercategory": "none"}]
        categories += [{"id": i + 1, "name": label, "supercategory": "shapes"} for i, label in enumerate(CLASSES)]
        document = {"images": images, "categories": categories, "annotations": annotations}
        (folder / name / "_annotations.coco.json").write_text(json.dumps(document))
    return str(folder)


def write_yolo(folder, **splits):
    for name, seeds in splits.items():
        for kind in ("images", "labels"):
            (folder / name / kind).mkdir(parents=True)
        for seed in seeds:
            pixels, boxes, labels = scene(seed)
            (folder / name / "images" / f"{seed}.png").write_bytes(encode(pixels))
            centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2 / (96, 64), (boxes[:, 2:] - boxes[:, :2]) / (96, 64)
            lines = [
                f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}"
                for label, (x, y), (w, h) in zip(labels, centres, sides, strict=True)
            ]
            (folder / name / "labels" / f"{seed}.txt").write_text("\n".join(lines) + "\n")
    folders = "".join(f"{name}: {name}/images\n" for name in splits)
    (folder / "data.yaml").write_text(f"names: [{', '.join(CLASSES)}]\n{folders}")
    return str(folder)


def write_voc(folder, **splits):
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for name, seeds in splits.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(f"{seed}\n" for seed in seeds))
        for seed in seeds:
            pixels, boxes, labels = scene(seed)
            (folder / "JPEGImages" / f"{seed}.png").write_bytes(encode(pixels))
            objects = "".join(
                f"  <object>\n    <name>{CLASSES[label]}</name>\n    <part><name>corner</name><bndbox><xmin>1</xmin>"
                f"<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>\n    <bndbox>\n"
                f"      <xmin>{x_min + 1:g}</xmin>\n      <ymin>{y_min + 1:g}</ymin>\n"
                f"      <xmax>{x_max:g}</xmax>\n      <ymax>{y_max:g}</ymax>\n    </bndbox>\n  </object>\n"
                for (x_min, y_min, x_max, y_max), label in zip(boxes, labels, strict=True)
            )
            text = f"<annotation>\n  <filename>{seed}.png</filename>\n{objects}</annotation>\n"
            (folder / "Annotations" / f"{seed}.xml").write_text(text)
    return str(folder)


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)
