import numpy as np
import pytest

from tests.training.text.conftest import KOREAN, make_texts, write_csv, write_jsonl, write_parquet
from training.data import DataError
from training.text.data import TextSplit, hold_out, load_texts


def test_a_validation_split_is_held_out_from_every_class(source):
    data = load_texts(source)
    assert data.classes == ("crude", "grain")
    assert len(data.train) + len(data.validation) == 120
    assert len(data.test) == 40
    assert 10 <= len(data.validation) <= 14
    texts, _ = make_texts(*(write_parquet.__defaults__[:1]), 120, 0)
    assert sorted(data.train.texts + data.validation.texts) == sorted(texts)
    assert load_texts(source).fingerprint == data.fingerprint
    assert load_texts(source, seed=1).fingerprint != data.fingerprint


@pytest.mark.parametrize("write", [write_csv, write_jsonl])
def test_one_file_is_a_data_set(tmp_path, write):
    path = tmp_path / ("reviews.csv" if write is write_csv else "reviews.jsonl")
    data = load_texts(write(path, KOREAN, ("좋다", "나쁘다")))
    assert data.name == "reviews"
    assert data.classes == ("나쁘다", "좋다")
    assert len(data.train) + len(data.validation) + len(data.test) == 60
    for text, label in zip(data.test.texts, data.test.labels, strict=True):
        good = any(word in text for word in KOREAN[0])
        assert data.classes[label] == ("좋다" if good else "나쁘다")


def test_columns_of_other_names_are_named(tmp_path):
    path = write_csv(tmp_path / "x.csv", columns=("body", "kind"))
    with pytest.raises(DataError, match=r"has the columns body, kind: choose one with --text-column"):
        load_texts(path)
    assert len(load_texts(path, text_column="body", label_column="kind").train) > 30


def test_a_class_of_one_stays_in_training():
    split = TextSplit(tuple("abcdefghijk"), np.array([0] * 10 + [1]))
    taken, rest = hold_out(split, 0.2, seed=0)
    assert len(taken) == 2
    assert 1 in rest.labels
    assert sorted(taken.texts + rest.texts) == sorted(split.texts)


def test_missing_values_are_named_with_their_row(tmp_path):
    path = tmp_path / "x.csv"
    write_csv(path)
    lines = path.read_text().splitlines()
    lines[5] = ",crude"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"\[train\] row 4: the text is missing"):
        load_texts(str(path))
    lines[5] = "some words,"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"\[train\] row 4: the label .* is none of the classes"):
        load_texts(str(path))


def test_wrong_paths_and_kinds_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load_texts(str(tmp_path / "gone"))
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(DataError, match=r"ends in '\.txt'"):
        load_texts(str(tmp_path / "x.txt"))


def test_a_limit_applies_to_each_split(source):
    assert len(load_texts(source, limit=20).train) == 20


def test_a_trial_takes_some_of_every_class_however_they_are_sorted(tmp_path):
    path = tmp_path / "x.csv"
    write_csv(path)
    first, *lines = path.read_text().splitlines()
    path.write_text("\n".join((first, *sorted(lines, key=lambda line: line.rpartition(",")[2]))) + "\n")
    data = load_texts(str(path), limit=10)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 5, 10]
    assert set(data.train.labels) == set(data.test.labels) == {0, 1}
