import json

import numpy as np
import pytest

from tests.training.detection.conftest import CLASSES, scene, write_coco, write_parquet, write_voc, write_yolo
from training.data import DataError
from training.detection.formats import read

WRITERS = {"parquet": write_parquet, "coco": write_coco, "yolo": write_yolo, "voc": write_voc}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_images_boxes_and_classes(tmp_path, kind):
    source = WRITERS[kind](tmp_path / kind, train=range(6), val=range(100, 102), test=range(200, 203))
    data = read(source)
    assert set(data.classes) == set(CLASSES)
    assert {name: len(images) for name, images in data.splits.items()} == {"train": 6, "validation": 2, "test": 3}
    for seed, image in enumerate(data.splits["train"]):
        _, boxes, labels = scene(seed)
        assert [box.label for box in image.boxes] == [CLASSES[label] for label in labels]
        corners = np.array([box.corners for box in image.boxes]) * ((96, 64, 96, 64) if kind == "yolo" else 1)
        np.testing.assert_allclose(corners, boxes, atol=1e-3)
        assert all(box.relative == (kind == "yolo") for box in image.boxes)


@pytest.mark.parametrize(
    ("kind", "origin"),
    [
        ("parquet", "[train] row 1 object 0"),
        ("coco", "_annotations.coco.json annotations["),
        ("yolo", "labels/1.txt:1"),
        ("voc", "Annotations/1.xml:3"),
    ],
)
def test_every_box_knows_its_origin(tmp_path, kind, origin):
    data = read(WRITERS[kind](tmp_path / kind, train=range(2)))
    assert origin in data.splits["train"][1].boxes[0].origin


def test_original_coco_layout(tmp_path):
    write_coco(tmp_path / "roboflow", train=range(3))
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (tmp_path / "roboflow" / "train").rename(folder / "train2017")
    (folder / "train2017" / "_annotations.coco.json").rename(folder / "annotations" / "instances_train2017.json")
    assert len(read(str(folder)).splits["train"]) == 3


def test_yolo_names_may_be_a_mapping_and_the_root_elsewhere(tmp_path):
    write_yolo(tmp_path, train=range(2))
    (tmp_path / "data.yaml").write_text("path: nowhere\ntrain: train/images\nnames: {0: red, 1: blue}\n")
    data = read(str(tmp_path))
    assert data.classes == CLASSES
    assert len(data.splits["train"]) == 2


def test_an_image_without_labels_has_no_boxes(tmp_path):
    write_yolo(tmp_path, train=range(2))
    (tmp_path / "train" / "labels" / "0.txt").unlink()
    assert read(str(tmp_path)).splits["train"][0].boxes == ()


def test_crowds_are_left_out(tmp_path):
    write_coco(tmp_path, train=range(1))
    path = tmp_path / "train" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(document))
    assert len(read(str(tmp_path)).splits["train"][0].boxes) == len(scene(0)[1]) - 1


def edit_json(folder, change):
    path = folder / "train" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("kind", "break_it", "message"),
    [
        ("coco", lambda f: (f / "train" / "_annotations.coco.json").write_text("{"), "is no COCO JSON"),
        ("coco", lambda f: edit_json(f, lambda d: d["annotations"][1].pop("bbox")), r"annotations\[1\]: needs bbox"),
        ("coco", lambda f: edit_json(f, lambda d: d["annotations"][0].update(image_id=9)), "image_id 9 is none"),
        ("coco", lambda f: (f / "train" / "0.png").unlink(), "the image 0.png is neither beside it"),
        ("yolo", lambda f: (f / "train" / "labels" / "1.txt").write_text("\n0 0.5 x 1 1\n"), r"1\.txt:2: is not"),
        ("yolo", lambda f: (f / "data.yaml").write_text("train: train/images\n"), "needs `names`"),
        ("yolo", lambda f: (f / "data.yaml").write_text("names: [a]\ntrain: gone\n"), "gone is no folder"),
        ("voc", lambda f: (f / "Annotations" / "0.xml").write_text("<annotation>"), r"0\.xml: cannot be read"),
        ("voc", lambda f: (f / "JPEGImages" / "0.png").unlink(), r"0\.xml: the image 0\.png is neither"),
        (
            "voc",
            lambda f: (f / "Annotations" / "0.xml").write_text("<annotation>\n<object><name>a</name></object>\n"
                                                               "</annotation>"),
            r"0\.xml:2: the object needs a name and a bndbox",
        ),
    ],
)  # fmt: skip
def test_unreadable_files_are_named_with_the_location(tmp_path, kind, break_it, message):
    source = WRITERS[kind](tmp_path / kind, train=range(2))
    break_it(tmp_path / kind)
    with pytest.raises(DataError, match=message):
        read(source)


def test_a_folder_of_nothing_known_says_what_is_known(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"COCO JSON .*, a YOLO data.yaml, or Pascal VOC"):
        read(str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        read(str(tmp_path / "gone"))
