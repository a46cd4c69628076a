"""Items of folders and files: which they are, in which order, from any of them on, and what is wrong with some."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quartet.offline.scoring.sources import BadItem, UnusableInput, chunks, open_source


def test_a_folder_is_listed_once(tmp_path: Path):
    folder = tmp_path / "images"
    for name in ("b/2.JPG", "b/1.png", "a.webp", "notes.txt", "c/d/e.gif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    listing = tmp_path / "listing"
    source = open_source(folder, listing, str)
    expected = ["a.webp", "b/1.png", "b/2.JPG", "c/d/e.gif"]
    assert source.total == 4
    assert [item.record["path"] for item in source.items(0, ("path",))] == expected
    # What comes later would shift the rows of what has been scored.
    (folder / "0.png").touch()
    later = open_source(folder, listing, str)
    assert [(item.row, item.record["path"]) for item in later.items(2, ("path",))] == [(2, "b/2.JPG"), (3, "c/d/e.gif")]


@pytest.mark.parametrize("start", [0, 1, 3, 4, 6, 7])
def test_a_parquet_file_from_any_row_on(tmp_path: Path, start: int):
    table = pa.table({"text": [f"t{row}" for row in range(7)], "other": range(7)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    source = open_source(tmp_path / "a.parquet", tmp_path / "listing", str)
    assert (source.total, source.columns) == (7, ["text", "other"])
    items = list(source.items(start, ("text",)))
    assert [(item.row, item.record) for item in items] == [(row, {"text": f"t{row}"}) for row in range(start, 7)]


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_the_separator_of_a_csv_file_is_found(tmp_path: Path, separator: str):
    (tmp_path / "a.csv").write_text(f'이름{separator}"a, b"\n"1,5"{separator}x\n')
    source = open_source(tmp_path / "a.csv", tmp_path / "listing", str)
    assert source.columns == ["이름", "a, b"]
    assert [item.record for item in source.items(0, ("이름",))] == [{"이름": "1,5"}]


@pytest.mark.parametrize(
    ("name", "text", "columns", "values"),
    [
        ("a.tsv", 'id\ttext\n1\t"quoted\ttab"\n2\tplain\n', ["id", "text"], ["quoted\ttab", "plain"]),
        ("b.tsv", 'id\ttext\n1\the said "no\n2\t"never\n', ["id", "text"], ['he said "no', '"never']),
        ("c.tsv", "id,text\n1,no tabs\n", ["id", "text"], ["no tabs"]),
        ("d.csv", "id\ttext\n1\ta, b\n", ["id", "text"], ["a, b"]),
        ("e.csv", "id,,text\n1,x,y\n", ["id", "unnamed 2", "text"], ["y"]),
    ],
)
def test_dialects(tmp_path: Path, name: str, text: str, columns: list[str], values: list[str]):
    (tmp_path / name).write_text(text)
    source = open_source(tmp_path / name, tmp_path / "listing", str)
    assert source.columns == columns
    items = list(source.items(0, ("text",), {"id": "key"}))
    assert [item.record["text"] for item in items] == values
    assert [item.carried["key"] for item in items] == [str(number) for number in range(1, len(values) + 1)]
    assert source.sample()[0]["text"] == values[0]


def test_columns_of_the_same_name_are_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_text("a,b, a\n1,2,3\n")
    with pytest.raises(UnusableInput, match="two columns are called 'a'"):
        open_source(tmp_path / "a.csv", tmp_path / "listing", str)


def test_json_lines_carry_over_what_the_first_of_them_have(tmp_path: Path):
    lines = [{"text": "a", "id": 1, "more": {"x": 1}}, {"text": "b"}, {"id": 3}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = open_source(tmp_path / "a.jsonl", tmp_path / "listing", str)
    assert source.plain == ("text", "id")
    items = list(source.items(0, ("text",), {"id": "key"}))
    assert [item.carried for item in items] == [{"key": 1}, {"key": None}, {"key": 3}]
    assert isinstance(items[2].record, BadItem)


def test_a_csv_file_in_another_encoding_is_refused_with_the_command_that_converts_it(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes("이름,값\n하나,1\n".encode("cp949"))
    with pytest.raises(UnusableInput, match=r"a\.csv: is not in UTF-8\. .* iconv -f cp949 -t utf-8 a\.csv > new\.csv"):
        open_source(tmp_path / "a.csv", tmp_path / "listing", str)


def test_a_csv_file(tmp_path: Path):
    text = '\ufeffa, b ,c\r\n1,2,3\r\n"4",,"x, ""y""\nz"\r\n\r\n5,6\r\n7,8,9'
    (tmp_path / "a.csv").write_bytes(text.encode())
    source = open_source(tmp_path / "a.csv", tmp_path / "listing", str.strip)
    assert list(source.columns or ()) == ["a", "b", "c"]
    items = list(source.items(0, ("c", "b")))
    assert [item.row for item in items] == [0, 1, 2, 3]
    assert [item.record for item in items[:2]] == [{"c": "3", "b": "2"}, {"c": 'x, "y"\nz', "b": ""}]
    assert isinstance(items[2].record, BadItem)
    assert items[2].record.detail == "The row has 2 cells, not 3."
    assert [item.record for item in source.items(3, ("b",))] == [{"b": "8"}]


def test_a_row_with_a_wrong_number_of_cells_keeps_its_values(tmp_path: Path):
    (tmp_path / "a.csv").write_text("id,text,date\n1,a,May\n2,b\n3,c,June,x\n")
    source = open_source(tmp_path / "a.csv", tmp_path / "listing", str)
    items = list(source.items(0, ("text",), {"id": "id", "date": "date"}))
    assert [item.carried for item in items] == [{"id": "1", "date": "May"}, {"id": "2"}, {"id": "3", "date": "June"}]
    assert [isinstance(item.record, BadItem) for item in items] == [False, True, True]


def test_a_cell_that_is_too_long_costs_its_row_alone(tmp_path: Path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n" + "x" * 140_000 + ",2\n3,4\n")
    items = list(open_source(tmp_path / "a.csv", tmp_path / "listing", str).items(0, ("a",)))
    assert [item.row for item in items] == [0, 1, 2]
    assert isinstance(items[1].record, BadItem)
    assert items[2].record == {"a": "3"}


def test_json_lines(tmp_path: Path):
    lines = [json.dumps({"text": "a", "x": 1}), "{", '["text"]', '{"x": 2}', '{"text": "b"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = open_source(tmp_path / "a.jsonl", tmp_path / "listing", str)
    assert source.total == 5
    first, *bad, last = source.items(0, ("text",))
    assert (first.record, last.record, last.row) == ({"text": "a"}, {"text": "b"}, 4)
    assert [item.record.detail.partition(" (")[0] for item in bad] == [
        "The line is not valid JSON",
        "The line is not a JSON object.",
        "The line lacks text.",
    ]


def test_what_cannot_be_read(tmp_path: Path):
    for name, text in (("a.txt", "x"), ("empty.csv", ""), ("a.parquet", "x")):
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    for name, why in (
        ("nowhere", "does not exist"),
        ("a.txt", "neither a folder nor"),
        ("empty.csv", "no line of column names"),
        ("a.parquet", "no parquet file"),
        ("folder", "holds no files that end with .jpg"),
    ):
        with pytest.raises(UnusableInput, match=why):
            open_source(tmp_path / name, tmp_path / f"{name}.listing", str)


def test_chunks():
    assert list(chunks(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]  # type: ignore[arg-type]
