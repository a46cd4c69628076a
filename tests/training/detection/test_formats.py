import json
import shutil

import numpy as np
import pytest

from tests.pictures import encode
from tests.training.detection.conftest import CLASSES, scene, write_coco, write_parquet, write_voc, write_yolo
from training.data.dataset import DataError
from training.detection.formats import read

WRITERS = {"parquet": write_parquet, "coco": write_coco, "yolo": write_yolo, "voc": write_voc}


def read_strictly(source):
    data = read(source)
    data.problems.settle(source, "refuse", data.inspection)
    return data


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


def test_crowds_are_marked(tmp_path):
    write_coco(tmp_path, train=range(1))
    path = tmp_path / "train" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(document))
    crowds = [box.crowd for box in read(str(tmp_path)).splits["train"][0].boxes]
    assert crowds == [True] + [False] * (len(scene(0)[1]) - 1)


def edit_json(folder, change):
    path = folder / "train" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("kind", "break_it", "message"),
    [
        ("coco", lambda f: (f / "train" / "_annotations.coco.json").write_text('{"images"'), "is no COCO JSON"),
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
        read_strictly(source)


def test_a_folder_of_nothing_known_says_what_is_known(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"COCO JSON .*, a YOLO data.yaml, or Pascal VOC"):
        read(str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        read(str(tmp_path / "gone"))


def write_images(folder, seeds, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"{seed}{suffix}").write_bytes(encode(scene(seed)[0]))


def corners(data, split="train"):
    return [[box.corners for box in image.boxes] for image in data.splits[split]]


def truth(seeds):
    return [[tuple(map(float, box)) for box in scene(seed)[1]] for seed in seeds]


@pytest.mark.parametrize(("annotations", "images"), [("annotations/xmls", "images"), (".", "."), ("Labels", "IMAGES")])
def test_xml_files_in_any_folder_whatever_the_case_of_the_names(tmp_path, annotations, images):
    write_voc(tmp_path / "voc", train=range(3))
    folder = tmp_path / "mine"
    write_images(folder / images, range(3), ".PNG")
    write_images(folder / images, [9])
    (folder / annotations).mkdir(parents=True, exist_ok=True)
    for seed in range(3):  # an editor wrote another suffix, and its own folders
        text = (tmp_path / "voc" / "Annotations" / f"{seed}.xml").read_text()
        text = text.replace(f"{seed}.png", f"C:\\me\\{seed}.jpg")
        (folder / annotations / f"{seed}.xml").write_text(text)
    data = read_strictly(str(folder))
    assert corners(data) == truth(range(3))
    assert data.inspection.notes == [
        "Pascal VOC XML in 3 files; 4 .png, 3 .xml",
        "1 images have no XML file: they are not used",
    ]


def test_coco_with_captions_beside_it_and_images_of_the_same_name(tmp_path):
    write_coco(tmp_path / "coco", train=range(2), val=[100])
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir()
    for split, year in (("train", "train2017"), ("val", "val2017")):
        (folder / split / "_annotations.coco.json").rename(folder / "annotations" / f"instances_{year}.json")
        (folder / split).rename(folder / year)
        captions = {"images": [], "annotations": [{"image_id": 1, "caption": "a square"}]}
        (folder / "annotations" / f"captions_{year}.json").write_text(json.dumps(captions))
    (folder / "val2017" / "100.png").rename(folder / "val2017" / "1.png")
    path = folder / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace("100.png", "1.png"))
    data = read_strictly(str(folder))
    assert corners(data) == truth(range(2))
    assert corners(data, "validation") == truth([100])
    assert data.splits["validation"][0].image.parent.name == "val2017"
    assert any("captions_train2017.json: has no boxes" in note for note in data.inspection.notes)


def test_labelme_shapes_count_as_their_bounding_boxes(tmp_path):
    write_images(tmp_path, range(2))
    polygon = {"label": "red", "shape_type": "polygon", "points": [[1, 9], [5, 2], [8, 7]]}
    circle = {"label": "blue", "shape_type": "circle", "points": [[20, 20], [23, 24]]}
    (tmp_path / "0.json").write_text(json.dumps({"shapes": [polygon, circle], "imagePath": "..\\0.png"}))
    (tmp_path / "1.json").write_text(json.dumps({"shapes": [{"label": "red"}], "imagePath": "1.png"}))
    data = read(str(tmp_path))
    assert corners(data) == [[(1, 2, 8, 9), (15, 15, 25, 25)], []]
    assert "1.json shapes[0]: needs a label and points" in data.problems.shown[0]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "{name},96,64,red,{0:g},{1:g},{2:g},{3:g}"),
        ("Image_ID;Label;x;y;w;h", "{name};red;{0:g};{1:g};{w:g};{h:g}"),
        ("image,category,bbox", '{name},red,"[{0:g}, {1:g}, {w:g}, {h:g}]"'),
    ],
)
def test_a_table_of_boxes(tmp_path, header, row):
    write_images(tmp_path / "images", range(3))
    lines = [header]
    for seed in range(3):
        for box in scene(seed)[1].tolist():
            lines += [row.format(*box, name=f"{seed}.PNG", w=box[2] - box[0], h=box[3] - box[1])]
    (tmp_path / "train_labels.csv").write_text("\n".join(lines) + "\n")
    data = read_strictly(str(tmp_path))
    assert corners(data) == truth(range(3))
    assert data.classes == ("red",)
    assert data.splits["train"][0].boxes[0].origin.endswith("train_labels.csv:2")


def test_yolo_labels_without_a_description_and_polygons(tmp_path):
    write_images(tmp_path / "images", range(2))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "0.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.1 0.2 0.3 0.2 0.2 0.6\n")
    data = read_strictly(str(tmp_path))
    np.testing.assert_allclose(corners(data)[0], [(0.4, 0.3, 0.6, 0.7), (0.1, 0.2, 0.3, 0.6)])
    assert data.classes == ("class 0", "class 1")
    assert "put them into" in data.inspection.warnings[0]
    (tmp_path / "classes.txt").write_text("고양이\n개\n", encoding="utf-8")
    assert read(str(tmp_path)).classes == ("고양이", "개")


def test_an_archive_with_a_folder_in_it(tmp_path, data_cache):
    write_voc(tmp_path / "voc" / "VOC2007", train=range(2))
    shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "voc")
    assert corners(read_strictly(str(tmp_path / "set.zip"))) == truth(range(2))
