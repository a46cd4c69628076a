"""Rows of CSV, TSV, JSON Lines and Parquet: flat, and readable by others whatever cells hold."""

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from quartet.offline.flat import flatten
from quartet.offline.scoring.outputs import Delimited, Format, JsonLines, Layout, format_of
from quartet.offline.scoring.sources import UnusableInput
from service.tasks.base import Operation
from service.tasks.registry import BUILT_IN

LABELS = [{"label": "cat", "index": 1, "probability": 0.75}, {"label": "dog", "index": 0, "probability": 0.25}]
FAILURE = {"row": 3, "id": "d", "name": "bad.png", "error": "Undecodable image: it is damaged"}


def operation(name: str) -> Operation:
    return next(operation for _, operation in BUILT_IN.operations() if operation.name == name)


def written(format_: Format, path: Path, *rows: dict[str, Any]) -> Path:
    """Two parts, joined."""
    parts = [path.with_name(f"{number}{format_.suffix}") for number in range(2)]
    format_.write(parts[0], [format_.encode(rows[:1])])
    format_.write(parts[1], [format_.encode(rows[1:])])
    format_.join(parts, path)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_labels_are_columns(tmp_path: Path):
    rows = [{"row": 0, "id": "a", "name": "a.png", "labels": LABELS, "typicality": 0.5, "unfamiliar": 0.5}, FAILURE]
    format_ = format_of(tmp_path / "out.csv", operation("predict"), {}, Layout(2)).carrying({"id": None})
    good, bad = read(written(format_, tmp_path / "out.csv", *rows))
    assert list(good) == ["row", "id", "name", "label", "probability", "typicality", "unfamiliar", "error"]
    assert good == {"row": "0", "id": "a", "name": "a.png", "label": "cat", "probability": "0.75", "typicality": "0.5",
                    "unfamiliar": "0.5", "error": ""}  # fmt: skip
    assert (bad["name"], bad["label"], bad["error"]) == ("bad.png", "", "Undecodable image: it is damaged")
    more = format_of(tmp_path / "out.csv", operation("predict"), {}, Layout(2, {"top_k": "5", "coverage": "0.9"}))
    (found, _) = read(written(more, tmp_path / "more.csv", {**rows[0], "label_set": ["cat"]}, FAILURE))
    assert (found["label_2"], found["probability_2"], found["label_set"]) == ("dog", "0.25", '["cat"]')
    for line, row in zip(
        written(JsonLines(), tmp_path / "out.jsonl", *rows).read_text().splitlines(), rows, strict=True
    ):
        assert json.loads(line) == flatten(row)
    assert flatten(rows[0])["label"] == "cat"
    assert flatten(rows[0])["labels"] == LABELS


def test_a_number_is_a_column(tmp_path: Path):
    format_ = format_of(tmp_path / "out.tsv", operation("predict-tabular"), {}, Layout())
    good, _ = read(written(format_, tmp_path / "out.tsv", {"row": 0, "value": 1.5, "unknown": ["city"]}, FAILURE))
    assert good == {"row": "0", "value": "1.5", "unknown": '["city"]', "typicality": "", "unfamiliar": "", "error": ""}


def test_boxes_have_a_row_each(tmp_path: Path):
    box = {"label": "RBC", "index": 0, "score": 0.9, "x_min": 1.0, "y_min": 2.0, "x_max": 3.0, "y_max": 4.0}
    image = {"row": 0, "name": "a.png", "width": 9, "height": 8, "counts": {"RBC": 2}, "boxes": [box, box]}
    format_ = format_of(tmp_path / "out.csv", operation("detect"), {}, Layout(3))
    rows = read(written(format_, tmp_path / "out.csv", image, {**image, "row": 1, "boxes": [], "counts": {}}, FAILURE))
    assert [row["row"] for row in rows] == ["0", "0", "1", "3"]
    assert [row["label"] for row in rows] == ["RBC", "RBC", "", ""]
    assert (rows[1]["x_min"], rows[1]["score"], rows[1]["width"]) == ("1.0", "0.9", "9")
    assert rows[3]["error"]


def test_a_result_with_an_error_of_its_own_is_no_failure(tmp_path: Path):
    rows = [{"row": 0, "name": "7.png", "inverted": False, "error": 0.25, "png": "AA=="}, FAILURE]
    for suffix in (".csv", ".jsonl", ".parquet"):
        path = written(
            format_of(tmp_path / f"out{suffix}", operation("reconstruct"), {}, Layout()),
            tmp_path / f"out{suffix}",
            *rows,
        )
        found: list[Any] = (
            read(path) if suffix == ".csv"
            else pq.read_table(path).to_pylist() if suffix == ".parquet"
            else [json.loads(line) for line in path.read_text().splitlines()]
        )  # fmt: skip
        assert float(found[0]["mse"]) == 0.25
        assert not found[0]["error"]
        assert found[1]["error"] == FAILURE["error"]
    assert "png" not in read(tmp_path / "out.csv")[0]
    with pytest.raises(UnusableInput, match="answers pictures"):
        format_of(tmp_path / "out.csv", operation("decode"), {}, Layout())


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_whatever_a_cell_holds(tmp_path: Path, suffix: str):
    cells = [
        'a "b"',
        "c,d\te;f",
        "two\nlines",
        "old\rmac",
        "windows\r\n",
        "",
        " space ",
        "x" * 200_000,
        "한국어",
        "'=1+1",
    ]
    format_ = format_of(tmp_path / f"out{suffix}", operation("classify-text"), {}, Layout(2)).carrying({"id": None})
    rows = [{"row": row, "id": cell, "labels": LABELS} for row, cell in enumerate(cells)]
    limit = csv.field_size_limit(1 << 20)
    try:
        found = read(written(format_, tmp_path / f"out{suffix}", *rows))
    finally:
        csv.field_size_limit(limit)
    assert [row["id"] for row in found] == cells


def test_types_of_what_is_carried_over(tmp_path: Path):
    day = datetime.date(2026, 11, 30)
    values = {"n": 7, "x": 0.5, "yes": True, "day": day, "list": [1, "a"], "none": None}
    row = {"row": 0, **values, "labels": LABELS}
    types = {"n": pa.int64(), "x": pa.float64(), "yes": pa.bool_(), "day": pa.date32(), "list": None, "none": None}
    for suffix in (".csv", ".parquet", ".jsonl"):
        format_ = format_of(tmp_path / f"out{suffix}", operation("predict"), {}, Layout(2)).carrying(types)
        path = written(format_, tmp_path / f"out{suffix}", row, FAILURE)
        if suffix == ".csv":
            found: dict[str, Any] = read(path)[0]
            assert [found[name] for name in values] == ["7", "0.5", "true", "2026-11-30", '[1, "a"]', ""]
        elif suffix == ".parquet":
            found = pq.read_table(path).to_pylist()[0]
            assert [found[name] for name in values] == [7, 0.5, True, day, '[1,"a"]', None]
        else:
            found = json.loads(path.read_text().splitlines()[0])
            assert [found[name] for name in values] == [7, 0.5, True, "2026-11-30", [1, "a"], None]


def test_nothing_at_all_still_has_a_line_of_names(tmp_path: Path):
    format_ = Delimited(operation("predict"), Layout(2), ".csv")
    format_.join([], tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "row,name,label,probability,typicality,unfamiliar,error\n"
