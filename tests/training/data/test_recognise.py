import datasets
import numpy as np
import pytest

from tests.training.detection.conftest import write_coco, write_voc, write_yolo
from tests.training.detection.conftest import write_parquet as write_boxes
from tests.training.tabular.test_data import customers
from tests.training.text.conftest import KOREAN, write_csv, write_jsonl
from training.data.dataset import DataError
from training.data.recognise import recognise


@pytest.mark.parametrize("write", [write_boxes, write_coco, write_voc, write_yolo])
def test_boxes(tmp_path, write):
    found = recognise(write(tmp_path / "set", train=range(2)))
    assert (found.task, found.sure) == ("detection", True)


def test_class_folders_and_images_alone(tmp_path, write_class_folders, write_parquet, draw):
    whole = draw(4)
    source = write_class_folders(tmp_path / "set", _=(whole.images, whole.labels))
    assert recognise(source).task == "classification"
    assert recognise(source).because == "images of 3 classes"
    assert recognise(str(tmp_path / "set" / "red")).task == "autoencoder"
    assert recognise(write_parquet(tmp_path / "rows", train=(whole.images, whole.labels))).task == "classification"
    datasets.load_dataset(str(tmp_path / "rows"))["train"].remove_columns("label").to_parquet(
        tmp_path / "alone" / "train.parquet"
    )
    assert recognise(str(tmp_path / "alone")).task == "autoencoder"


def test_texts_with_labels(tmp_path):
    for source in (write_csv(tmp_path / "x.csv"), write_jsonl(tmp_path / "y.jsonl", KOREAN)):
        found = recognise(source)
        assert (found.task, found.options) == ("text", {"text_column": "text", "label_column": "label"})
    for kind in ("good", "bad"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        (tmp_path / "set" / kind / "1.txt").write_text("some words")
    assert recognise(str(tmp_path / "set")).task == "text"


def test_tables(tmp_path):
    (tmp_path / "x.csv").write_text("\n".join(customers(40)), encoding="cp949")
    found = recognise(str(tmp_path / "x.csv"))
    assert (found.task, found.options, found.sure) == ("tabular", {"target": "이탈"}, False)
    named = recognise(str(tmp_path / "x.csv"), target="나이")
    assert (named.options, named.sure) == ({"target": "나이"}, True)
    np.savetxt(tmp_path / "y.csv", np.eye(3), delimiter=",", header="label,a,b", comments="")
    assert recognise(str(tmp_path / "y.csv")).options == {"target": "label"}


def test_nothing_to_learn_from(tmp_path):
    (tmp_path / "a.pdf").touch()
    with pytest.raises(DataError, match=r"holds 1 \.pdf, nothing to learn from: images"):
        recognise(str(tmp_path))
    with pytest.raises(DataError, match="no such file or folder"):
        recognise(str(tmp_path / "gone"))
