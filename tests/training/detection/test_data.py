import hashlib
import json

import numpy as np
import pytest

from service.tasks.detection.letterbox import letterbox
from tests.pictures import encode
from tests.training.detection.conftest import CLASSES, scene, write_coco, write_parquet, write_voc, write_yolo
from training.data.contents import fingerprint_like
from training.data.dataset import DataError
from training.data.lazy import LazyImages
from training.detection.data import load_detection


def test_images_are_letterboxed_and_boxes_stay_in_the_originals_pixels(source):
    data = load_detection(source, size=(64, 64))
    assert data.size == (64, 64)
    assert data.classes == CLASSES
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 6, 6)
    _, boxes, labels = scene(0)
    np.testing.assert_array_equal(data.train.boxes[0], boxes)
    np.testing.assert_array_equal(data.train.labels[0], labels)
    # 96 x 64 in 64 x 64: two thirds of the size, with grey above and below.
    fitted = data.train.fitted_boxes(0)
    np.testing.assert_allclose(fitted[:, [0, 2]], boxes[:, [0, 2]] * 2 / 3, atol=1e-4)
    assert (data.train.images[0, :8] == 114).all()
    x, y = fitted[0, :2].astype(int) + 4
    assert data.train.images[0, y, x].argmax() == (0, 2)[labels[0]]


def test_the_size_follows_the_images_and_their_smallest_objects(source, monkeypatch):
    large = load_detection(source)
    assert large.size == (224, 320)
    assert any("frames of 224x320, in which 95% of the objects are at least" in note for note in large.inspection.notes)
    monkeypatch.setattr("training.detection.data._SMALLEST_SIDE", 64)
    assert load_detection(source).size == (352, 512)


def test_missing_splits_are_held_out_and_disjoint(tmp_path):
    data = load_detection(write_parquet(tmp_path / "data", train=range(40)), size=(32, 32))
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 8, 8)
    seen = [image.tobytes() for part in (data.train, data.validation, data.test) for image in part.images]
    assert len(set(seen)) == 40
    again = load_detection(write_parquet(tmp_path / "again", train=range(40)), size=(32, 32))
    assert again.fingerprint == data.fingerprint


def bad_yolo(folder, lines):
    source = write_yolo(folder, train=range(6), val=range(100, 102), test=range(200, 202))
    path = folder / "train" / "labels" / "2.txt"
    path.write_text(path.read_text() + "\n".join(lines) + "\n")
    return source, len(scene(2)[1])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 0.5 0.5 -0.2 0.1", "inverted"),
        ("0 0.5 0.5 0 0.1", "empty"),
        ("0 1.0 0.5 0.5 0.1", "outside of the image of 96 x 64"),
        ("7 0.5 0.5 0.1 0.1", "unknown class: class 7"),
        ("0 nan 0.5 0.1 0.1", "not a number"),
    ],
)
def test_bad_boxes_are_refused_with_file_and_line_or_dropped(tmp_path, line, problem):
    source, count = bad_yolo(tmp_path / "data", [line])
    with pytest.raises(DataError, match=rf"2\.txt:{count + 1}: {problem}(.|\n)*--bad drop"):
        load_detection(source)
    data = load_detection(source, bad="drop")
    assert len(data.train.boxes[2]) == count
    assert f"2.txt:{count + 1}: {problem}" in data.inspection.dropped[0]


def test_many_bad_boxes_are_counted(tmp_path):
    source, _ = bad_yolo(tmp_path / "data", ["0 0.5 0.5 0 0"] * 24)
    with pytest.raises(DataError, match=r"24 unusable items in (.|\n)*and 16 more"):
        load_detection(source)


def test_a_box_that_sticks_out_by_less_than_a_pixel_is_cut_off(tmp_path):
    source, count = bad_yolo(tmp_path / "data", ["0 0.5 0.5 1.01 1.01"])
    data = load_detection(source)
    np.testing.assert_array_equal(data.train.boxes[2][count], [0, 0, 96, 64])


def test_a_class_that_occurs_only_in_the_test_split_is_unknown(tmp_path):
    folder = tmp_path / "voc"
    source = write_voc(folder, train=range(6), val=range(100, 102), test=range(200, 202))
    path = folder / "Annotations" / "200.xml"
    path.write_text(path.read_text().replace("red", "green").replace("blue", "green"))
    with pytest.raises(DataError, match=r"200\.xml:3: unknown class: green"):
        load_detection(source)


def test_a_split_without_a_box_is_refused(tmp_path):
    source = write_yolo(tmp_path, train=range(6), val=range(100, 102), test=range(200, 202))
    for path in (tmp_path / "test" / "labels").iterdir():
        path.write_text("")
    with pytest.raises(DataError, match="none of the 2 test images has a box: add some that have"):
        load_detection(source)


def test_an_unreadable_image_is_named(tmp_path):
    source = write_coco(tmp_path, train=range(8), valid=range(100, 102), test=range(200, 202))
    whole = encode(scene(3)[0])
    (tmp_path / "train" / "3.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train/3\.png: .*damaged or truncated"):
        load_detection(source)


def test_a_limit_applies_to_each_split(source):
    data = load_detection(source, limit=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (4, 4, 4)


def test_an_unreadable_image_can_be_left_out(tmp_path):
    source = write_coco(tmp_path, train=range(8), valid=range(100, 102), test=range(200, 202))
    (tmp_path / "train" / "3.png").write_bytes(b"no image")
    (tmp_path / "train" / "5.png").unlink()
    with pytest.raises(DataError, match=r"2 unusable items(.|\n)*5\.png is neither(.|\n)*3\.png"):
        load_detection(source)
    data = load_detection(source, bad="drop")
    assert (len(data.train), data.train.names[3]) == (6, "4.png")


def test_what_was_found_is_described(tmp_path):
    data = load_detection(write_coco(tmp_path, train=range(12), test=[0, 100]))
    said = "\n".join(data.inspection.notes)
    assert said.startswith("COCO JSON in 2 files; 14 .png, 2 .json")
    assert "images: train 9, validation 3 (held out), test 2" in said
    assert "boxes of 2 classes: " in said
    assert data.inspection.warnings == [
        "1 of the 2 test images are also training images: the figures for test will be too good"
    ]


def test_images_too_many_for_memory_are_decoded_on_demand(source, monkeypatch):
    expected = load_detection(source, size=(64, 96))
    monkeypatch.setattr("training.detection.data.IN_MEMORY", 0)
    data = load_detection(source, size=(64, 96))
    assert isinstance(data.train.images, LazyImages)
    assert data.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(data.train.images[2:5], expected.train.images[2:5])


@pytest.mark.parametrize("write", [write_coco, write_parquet])
def test_only_the_first_start_decodes_all_images(tmp_path, monkeypatch, data_cache, write):
    source = write(tmp_path / "data", train=range(12), test=range(100, 104))
    monkeypatch.setattr("training.detection.data.IN_MEMORY", 0)
    decoded = []

    def note(image, *size):
        decoded.append(image)
        return letterbox(image, *size)

    monkeypatch.setattr("training.detection.data.letterbox", note)
    first = load_detection(source, size=(32, 64))
    assert len(decoded) == 16
    again = load_detection(source, size=(32, 64))
    assert len(decoded) == 16
    assert again.fingerprint == first.fingerprint
    assert again.train.letterboxes == first.train.letterboxes
    np.testing.assert_array_equal(again.test.images[:], first.test.images[:])


def test_the_fingerprint_of_old_manifests_is_of_pixels_and_boxes(tmp_path):
    data = load_detection(write_coco(tmp_path, train=range(8), valid=[100], test=[200]), size=(64, 96))
    digest = hashlib.sha256()
    for seed in (*range(8), 100, 200):
        for part in (*scene(seed), np.empty((0, 4), np.float32), np.empty(0, np.int64)):
            digest.update(part.tobytes())
    assert fingerprint_like(data, "sha256:0") == f"sha256:{digest.hexdigest()}"
    assert data.fingerprint.startswith("files-sha256:")


def test_crowds_are_kept_apart_from_the_objects(tmp_path):
    plain = load_detection(write_coco(tmp_path / "plain", train=range(12), test=range(100, 104)))
    source = write_coco(tmp_path / "crowds", train=range(12), test=range(100, 104))
    path = tmp_path / "crowds" / "test" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(document))
    data = load_detection(source)
    boxes, labels = data.test.crowds[0]
    np.testing.assert_array_equal(boxes, plain.test.boxes[0][:1])
    np.testing.assert_array_equal(labels, plain.test.labels[0][:1])
    np.testing.assert_array_equal(data.test.boxes[0], plain.test.boxes[0][1:])
    assert [len(boxes) for boxes, _ in data.test.crowds] == [1, 0, 0, 0]
    assert any(note.startswith("crowds (iscrowd): 1;") for note in data.inspection.notes)
    assert not any("crowds" in note for note in plain.inspection.notes)
