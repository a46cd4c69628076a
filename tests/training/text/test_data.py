import pytest

from tests.training.text.conftest import KOREAN, make_texts, write_csv, write_jsonl, write_parquet
from training.data.dataset import DataError
from training.text.data import load_texts


def test_a_validation_split_is_held_out_from_every_class(source):
    data = load_texts(source)
    assert data.classes == ("crude", "grain")
    assert len(data.train) + len(data.validation) == 120
    assert len(data.test) == 40
    assert len(data.validation) == 30
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


def test_classes_of_a_few_texts_reach_validation_and_never_leave_training(tmp_path):
    names = ["common"] * 70 + [f"rare {number}" for number in range(10) for _ in range(3)]
    (tmp_path / "x.csv").write_text("\n".join(["text,label", *(f"text {i},{name}" for i, name in enumerate(names))]))
    rare = 0
    for seed in range(8):
        data = load_texts(str(tmp_path / "x.csv"), seed=seed)
        assert len(set(data.train.labels)) == 11
        rare += (data.validation.labels > 0).sum()
    # A quarter of what is left of 30 texts, eight times.
    assert 30 <= rare <= 66


def test_columns_of_other_names_are_found_or_asked_for(tmp_path):
    path = write_csv(tmp_path / "x.csv", columns=("words", "kind"))
    data = load_texts(path)
    assert data.classes == ("crude", "grain")
    assert "texts are read from the column 'words' and labels from 'kind'" in data.inspection.notes[0]
    assert load_texts(path, text_column="words", label_column="kind").fingerprint == data.fingerprint
    with pytest.raises(DataError, match=r"has no column kinds: did you mean kind\? It has .*: choose one with --label"):
        load_texts(path, label_column="kinds")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    (tmp_path / "y.csv").write_text("\n".join(f"{line},{row % 3}" for row, line in enumerate(lines)))
    with pytest.raises(DataError, match=r"has the columns words, kind, 0: choose one with --label-column"):
        load_texts(str(tmp_path / "y.csv"))


def test_unusable_rows_are_named_together_and_can_be_dropped(tmp_path):
    path = tmp_path / "x.csv"
    write_csv(path)
    lines = path.read_text().splitlines()
    lines[5], lines[8] = ",crude", "some words,"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as caught:
        load_texts(str(path))
    assert "x.csv:6: the text is missing" in str(caught.value)
    assert "x.csv:9: the label is missing" in str(caught.value)
    data = load_texts(str(path), bad="drop")
    assert len(data.train) + len(data.validation) + len(data.test) == len(lines) - 3
    assert "2 unusable items" in data.inspection.dropped[0]


def test_wrong_paths_and_kinds_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load_texts(str(tmp_path / "gone"))
    (tmp_path / "x.xls").write_text("hello")
    with pytest.raises(DataError, match=r"ends in '\.xls': save it as \.xlsx or CSV"):
        load_texts(str(tmp_path / "x.xls"))


def test_reviews_as_excel_in_korea_saves_them_and_as_naver_does(tmp_path):
    texts, labels = make_texts(KOREAN, 60, 0)
    rows = [(text, ("부정", "긍정")[label]) for text, label in zip(texts, labels, strict=True)]
    expected = None
    for name, encoding, separator in (("a.csv", "cp949", ","), ("b.csv", "utf-16", "\t"), ("c.txt", "utf-8", "\t")):
        lines = [separator.join(("리뷰", "감정")), *(separator.join(row) for row in rows)]
        if separator == "\t" and encoding == "utf-8":  # a quotation mark that is never closed
            lines[1] = '"' + lines[1]
        (tmp_path / name).write_bytes("\n".join(lines).encode(encoding))
        data = load_texts(str(tmp_path / name))
        assert data.classes == ("긍정", "부정")
        assert len(data.train) + len(data.validation) + len(data.test) == 60
        expected = expected or data.test.texts
        assert len(set(expected) - {text.strip('"') for text in data.test.texts}) == 0


def test_a_folder_of_text_files_for_each_class(tmp_path):
    texts, labels = make_texts(KOREAN, 60, 0)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        path = tmp_path / ("train" if number < 48 else "test") / ("bad", "good")[label] / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "train" / "good" / "empty.txt").write_text(" ")
    with pytest.raises(DataError, match=r"good/empty\.txt: the text is missing"):
        load_texts(str(tmp_path))
    data = load_texts(str(tmp_path), bad="drop")
    assert (data.classes, len(data.test), len(data.train) + len(data.validation)) == (("bad", "good"), 12, 48)


def test_imbalance_and_repeated_texts_are_pointed_out(tmp_path):
    lines = ["text,label", *(f"word number {i},{'rare' if i == 7 else 'common'}" for i in range(50))]
    lines += ["word number 8,common"] * 15
    (tmp_path / "x.csv").write_text("\n".join(lines))
    data = load_texts(str(tmp_path / "x.csv"))
    assert (data.train.labels == 1).sum() == 1
    said = "\n".join(data.inspection.warnings)
    assert "'rare': it is trained on, and nothing measures it" in said
    assert "98% of the texts are 'common'" in said
    assert "--balance 0.5" in said
    assert "texts are also training texts" in said


def test_a_limit_applies_to_each_split(source):
    assert len(load_texts(source, limit=20).train) == 20


def test_a_trial_takes_some_of_every_class_however_they_are_sorted(tmp_path):
    path = tmp_path / "x.csv"
    write_csv(path)
    first, *lines = path.read_text().splitlines()
    path.write_text("\n".join((first, *sorted(lines, key=lambda line: line.rpartition(",")[2]))) + "\n")
    data = load_texts(str(path), limit=10)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [10, 10, 10]
    assert set(data.train.labels) == set(data.test.labels) == {0, 1}


def test_texts_without_letters_are_pointed_out(tmp_path):
    path = tmp_path / "x.csv"
    write_csv(path)
    path.write_text(path.read_text() + "!!!,crude\n!!!,grain\n8.5,grain\n")
    (said,) = (line for line in load_texts(str(path)).inspection.warnings if "letters" in line)
    assert said.startswith("3 of the 63 texts have no letters (")
    assert "'!!!'" in said
    assert "'8.5'" in said
    assert said.count("!!!") == 1
