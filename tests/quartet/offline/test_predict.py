"""quartet predict: the answers of the service, for what lies in files."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from quartet.command_line import main
from tests.pictures import encode
from tests.tiny import solid, write_model
from tests.tiny_autoencoder import write_autoencoder
from tests.tiny_detector import write_detector
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for write in (write_model, write_autoencoder, write_detector, write_tabular, write_topics):
        write(folder)
    return folder


@pytest.fixture(autouse=True)
def _settings(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MODELS", models), ("DEVICE", "cpu"), ("THREADS", 1)):
        monkeypatch.setenv(f"QUARTET_{name}", str(value))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, label in (("a.png", "red"), ("b.png", "green"), ("more/c.png", "blue")):
        (folder / name).write_bytes(encode(solid(label)))
    return folder


def rows_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_images_and_folders_as_json_lines_and_as_a_table(pictures: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["predict", "classifier", str(pictures), str(pictures / "a.png"), "--json", "-o", "top_k=1"]) == 0
    rows = rows_of(capsys)
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.png", "c.png", "a.png"]
    assert [row["labels"][0]["label"] for row in rows] == ["red", "green", "blue", "red"]
    assert main(["predict", "classifier/1", str(pictures / "a.png")]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "labels"]
    assert line.startswith(f"{pictures / 'a.png'}  red 1.00, ")


def test_a_version_is_named_by_its_folder_too(models: Path, pictures: Path, capsys: pytest.CaptureFixture[str],
                                              monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    monkeypatch.setenv("QUARTET_MODELS", "elsewhere")
    assert main(["predict", str(models / "classifier" / "1"), str(pictures / "b.png"), "--json"]) == 0
    assert rows_of(capsys)[0]["labels"][0]["label"] == "green"


def test_what_is_bad_is_said_in_its_row(pictures: Path, capsys: pytest.CaptureFixture[str]):
    (pictures / "b.png").write_bytes(b"damaged")
    assert main(["predict", "classifier", str(pictures), str(pictures / "none.png"), "--json"]) == 1
    rows = rows_of(capsys)
    assert ["error" in row for row in rows] == [False, True, False, True]
    assert "No such file" in rows[3]["error"]


def test_texts_of_files_tables_and_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "one.txt").write_text("oil oil")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "two.csv").write_text("text,id\noil,1\ngold,2\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"gold")))
    files = [str(tmp_path / name) for name in ("one.txt", "latin.txt", "two.csv")]
    assert main(["predict", "topics", *files, "-", "--json"]) == 1
    rows = rows_of(capsys)
    assert [(Path(row["file"]).name, row.get("row")) for row in rows] == [
        ("one.txt", None), ("latin.txt", None), ("two.csv", 0), ("two.csv", 1), ("-", None),
    ]  # fmt: skip
    assert rows[1]["error"] == "Invalid request: It is not UTF-8."
    assert rows[2]["labels"] == rows[0]["labels"]
    assert rows[4]["labels"] == rows[3]["labels"]


def test_rows_as_csv_and_as_the_api_has_them(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    manifest = json.loads((models / "tabular" / "1" / "manifest.json").read_text())
    names = [column["name"] for column in manifest["columns"]]
    (tmp_path / "rows.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")
    (tmp_path / "rows.json").write_text(json.dumps({"rows": [dict.fromkeys(names, 1)]}))
    assert main(["predict", "tabular", str(tmp_path / "rows.csv"), str(tmp_path / "rows.json"), "--json"]) == 0
    rows = rows_of(capsys)
    assert rows[0]["labels"] == rows[1]["labels"]
    (tmp_path / "rows.json").write_text("{}")
    assert main(["predict", "tabular", str(tmp_path / "rows.json"), "--json"]) == 1
    assert rows_of(capsys)[0]["error"].startswith("Invalid request: ")


def test_an_image_and_a_table_come_from_standard_input_too(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def given(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    given(encode(solid("green")))
    assert main(["predict", "classifier", "-", "--json"]) == 0
    (row,) = rows_of(capsys)
    assert (row["file"], row["labels"][0]["label"]) == ("-", "green")
    manifest = json.loads((models / "tabular" / "1" / "manifest.json").read_text())
    names = [column["name"] for column in manifest["columns"]]
    one = dict.fromkeys(names, 1)
    lines = f"{json.dumps(one)}\n{json.dumps(one)}\n"
    for data, count in (
        (",".join(names) + "\n" + ",".join("1" for _ in names) + "\n", 1),
        (lines, 2),
        (json.dumps(one), 1),
        (json.dumps({"rows": [one, one, one]}, indent=1), 3),
    ):
        given(data.encode())
        assert main(["predict", "tabular", "-", "--json"]) == 0
        assert len(rows_of(capsys)) == count


def test_a_file_that_cannot_be_used_has_a_row_and_the_others_are_answered(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "rows.csv", pictures / "a.png", tmp_path / "none.csv", tmp_path / "empty"]
    assert main(["predict", "classifier", *map(str, paths), "--json"]) == 1
    table, picture, missing, empty = rows_of(capsys)
    assert table["error"].startswith("The input lacks the column image or path; it has a, b")
    assert picture["labels"][0]["label"] == "red"
    assert "does not exist" in missing["error"]
    assert "holds no images" in empty["error"]


def test_formats_for_programs(pictures: Path, models: Path, capsys: pytest.CaptureFixture[str]):
    files = [str(pictures / "a.png"), str(pictures / "none.png")]
    assert main(["predict", "classifier", *files, "--format", "json", "-o", "top_k=2"]) == 1
    assert [each["file"] for each in json.loads(capsys.readouterr().out)] == files
    assert main(["predict", "classifier", *files, "--format", "csv", "-o", "top_k=2"]) == 1
    good, bad = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (good["label"], good["error"]) == ("red", "")
    assert {"label_2", "probability_2"} < good.keys()
    assert "No such file" in bad["error"]
    assert main(["predict", "detector", str(pictures / "a.png"), "--format", "csv", "-o", "confidence=0.01"]) == 0
    boxes = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert boxes
    assert {"label", "score", "x_min"} < boxes[0].keys()


def test_pictures_of_answers(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    for model in ("detector", "autoencoder"):
        assert main(["predict", model, str(pictures / "a.png"), "--render", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["a-2.png", "a.png"]
    said = capsys.readouterr().out
    for path in out.iterdir():
        PIL.Image.open(path).verify()
        assert str(path) in said
    assert main(["predict", "classifier", str(pictures / "a.png"), "--render", str(out)]) == 2
    assert "answers no pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "about"),
    [
        (["dogs", "a.png"], 2, "There is no model 'dogs'"),
        (["classifier", "a.png", "-o", "words=1"], 2, "There is no option words; the options are "),
        (["classifier", "a.png", "-o", "topk=1"], 2, "There is no option topk: did you mean top_k?"),
        (["classifier", "a.png", "-o", "top_k=x"], 2, "-o top_k=x: "),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], code: int, about: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["predict", *arguments]) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert about in said
