import json

import openpyxl
import pytest

from training.data.dataset import DataError, Inspection
from training.data.inspection import Problems
from training.data.tables import joined, read_tables, split_of


def read(path, **options):
    """The table of a file as a list of rows, what was noted, and what is wrong with it."""
    inspection, problems = Inspection(), Problems()
    table = read_tables(str(path), "", inspection, problems, **options)["train"]
    rows = list(zip(*(table.values(name) for name in table.columns), strict=True))
    return table, rows, inspection.notes, problems.shown


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_any_separator_and_encoding(tmp_path, delimiter, encoding):
    lines = [("도시", "문장"), ("서울", f'쉼표{delimiter} 그리고 ""인용""'), ("부산", "두\n줄")]
    text = "\r\n".join(delimiter.join((a, f'"{b}"')) for a, b in lines) + "\r\n"
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    table, rows, notes, problems = read(tmp_path / "x.csv")
    assert table.columns == ("도시", "문장")
    assert rows == [("서울", f'쉼표{delimiter} 그리고 "인용"'), ("부산", "두\n줄")]
    assert [table.where(row) for row in range(2)] == ["x.csv:2", "x.csv:3"]
    assert any("read as cp949 (found; --encoding overrides it)" in note for note in notes) == (encoding == "cp949")
    assert problems == []


def test_an_encoding_that_is_stated_and_wrong_is_named_with_the_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes("a,b\n1,2\n서울,3\n".encode("cp949"))
    assert read(path, encoding="euc-kr")[1][1] == ("서울", "3")
    with pytest.raises(DataError, match=r"x\.csv:3: is not valid utf-8 .* such as cp949"):
        read(path, encoding="utf-8")
    with pytest.raises(DataError, match="--encoding klingon: no such encoding"):
        read(path, encoding="klingon")


def test_rows_that_do_not_fit_their_header_are_named(tmp_path):
    (tmp_path / "x.csv").write_text("a,b,\n1,2,\n\n1\n1,2,,\n1,2,3,4\n")
    table, rows, _, problems = read(tmp_path / "x.csv")
    assert table.columns == ("a", "b")
    assert rows == [("1", "2"), ("1", "2")]
    assert problems == ["x.csv:4: has 1 cells, not 2", "x.csv:6: has 4 cells, not 2"]


def test_quotation_marks_that_are_never_closed_between_tabs(tmp_path):
    (tmp_path / "x.txt").write_text('id\ttext\n1\t"so good\n2\tfine"\n3\t"very" good\n')
    assert [text for _, text in read(tmp_path / "x.txt")[1]] == ['"so good', 'fine"', '"very" good']


def test_json_lines_and_lists(tmp_path):
    records = [{"text": "하나", "label": True, "more": [1]}, {"text": "둘", "label": None, "score": 1.5}]
    expected = [("하나", "true", "[1]", None), ("둘", None, None, "1.5")]
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(record) for record in records) + "\n{\n3\n")
    table, rows, _, problems = read(tmp_path / "x.jsonl")
    assert (table.columns, rows) == (("text", "label", "more", "score"), expected)
    assert problems[0].startswith("x.jsonl:3: is not valid JSON")
    assert problems[1] == "x.jsonl:4: is not a JSON object"
    (tmp_path / "y.json").write_text(json.dumps(records))
    assert read(tmp_path / "y.json")[1] == expected


def test_spreadsheets(tmp_path):
    book = openpyxl.Workbook()
    for row in ([None, None], ["a", "b"], [1.0, "x"], [2.5, None], [None, None]):
        book.active.append(row)
    book.create_sheet("more")
    book.save(tmp_path / "x.XLSX")
    table, rows, notes, _ = read(tmp_path / "x.XLSX")
    assert rows == [("1", "x"), ("2.5", None)]
    assert table.where(1) == "x.XLSX:4"
    assert "only the first sheet" in notes[0]
    (tmp_path / "y.xlsx").write_text("no")
    with pytest.raises(DataError, match=r"y\.xlsx: cannot be read as a spreadsheet"):
        read(tmp_path / "y.xlsx")


def test_a_table_is_kept_in_a_file_without_a_name(tmp_path, monkeypatch, data_cache):
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{row},{-row}\n" for row in range(50)))
    monkeypatch.setattr("training.data.tables._ROWS", 7)
    before = set(data_cache.iterdir())
    table, rows, _, _ = read(tmp_path / "x.csv")
    assert rows == [(str(row), str(-row)) for row in range(50)]
    assert list(table.values("b"))[49] == "-49"  # more than once
    assert set(data_cache.iterdir()) == before


def test_a_file_for_each_split(tmp_path):
    for name in ("ratings_train.csv", "ratings_test.csv"):
        (tmp_path / name).write_text(f"a\n{name}\n")
    tables = read_tables(str(tmp_path), "", Inspection(), Problems())
    assert set(tables) == {"train", "test"}
    both = joined([tables["train"], tables["test"]])
    assert list(both.values("a")) == ["ratings_train.csv", "ratings_test.csv"]
    assert both.where(1) == "ratings_test.csv:2"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "bee.jpg").touch()
    with pytest.raises(DataError, match=r"none: holds no table or texts, but 1 \.jpg\. Give one\."):
        read_tables(str(tmp_path / "none"), "Give one.", Inspection(), Problems())
    with pytest.raises(DataError, match=r"bee\.jpg: is a single image\. Give the folder"):
        read_tables(str(tmp_path / "none" / "bee.jpg"), "", Inspection(), Problems())
    (tmp_path / "other_train.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="it is not clear which file is meant"):
        read_tables(str(tmp_path), "", Inspection(), Problems())


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("ratings_test", "test"), ("val2017", "validation"), ("dev", "validation"), ("trains", None)],
)
def test_splits_are_told_by_words(name, split):
    assert split_of(name) == split


def test_german_is_said_to_be_western_european(tmp_path):
    (tmp_path / "x.csv").write_bytes("Stadt;Größe\nKöln;groß\nMünchen;größer\n".encode("cp1252"))
    _, rows, notes, _ = read(tmp_path / "x.csv")
    assert rows == [("Köln", "groß"), ("München", "größer")]
    assert "read as cp1252 (found; --encoding overrides it), separated by semicolons" in notes[0]
