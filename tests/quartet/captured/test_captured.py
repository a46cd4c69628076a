"""quartet captured: items are listed, exported as training reads them, and deleted."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from quartet.command_line import main
from service.capture.database import DAY
from service.capture.feedback_table import Feedback
from service.capture.store import Item, Limits, Store
from tests.pictures import encode, photograph
from tests.tiny import solid
from training.data.dataset import Inspection
from training.data.image_sources import open_images
from training.data.inspection import Problems
from training.data.tables import read_file

TIME = 4e9  # far in the future, so that nothing has expired
LABELS = {"labels": [{"label": "red", "index": 0, "probability": 0.9}], "typicality": 0.4}
BOXES = {
    "width": 80, "height": 60, "counts": {"RBC": 1},
    "boxes": [{"label": "RBC", "index": 0, "score": 0.8, "x_min": 8.0, "y_min": 6.0, "x_max": 40.0, "y_max": 30.0}],
}  # fmt: skip


def item(number: int, **changes: Any) -> Item:
    fields = {
        "model": "classifier", "version": "1", "variant": "reference", "operation": "predict",
        "request": f"r-{number}", "index": 0, "key": None, "time": TIME + number, "expires": TIME + DAY,
        "strategy": "random", "answer": LABELS, "media_type": "image/png", "content": encode(solid("red")),
    }  # fmt: skip
    return Item(**fields | changes)


def feedback(number: int, said: dict[str, Any], truth: Any, points: float = 0.0, **changes: Any) -> Feedback:
    model = changes.pop("model", "classifier")
    time = TIME + number
    return Feedback(f"r-{number}", 0, "", said, time, time + DAY, model, "1", truth, "accuracy", points, 1.0)


def keep(folder: Path, items: list[Item], said: list[Feedback] = ()) -> Path:  # type: ignore[assignment]
    with Store(folder, create=True) as store:
        pairs = {(each.model, each.strategy): Limits(1000, 1000) for each in items}
        store.write(items, pairs, {each.model: 1e9 for each in items}, TIME)
        store.add_feedback(said)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images; one is called right, two have a truth, one is called wrong, and one has no feedback."""
    said = [
        feedback(0, {"right": True}, "red", 1.0),
        feedback(1, {"truth": "blue"}, "blue"),
        feedback(2, {"truth": "green"}, "green"),
        feedback(3, {"right": False}, None),
    ]
    return keep(tmp_path / "captures", list(map(item, range(5))), said)


def run(*arguments: object, code: int = 0) -> None:
    assert main(["captured", *map(str, arguments)]) == code


def test_models_and_items_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]):
    keep(folder, [item(9, model="other")])
    run("list", "--folder", folder, "--json")
    models = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["model"], row["items"], row["with_truth"]) for row in models] == [
        ("classifier", 5, 3),
        ("other", 1, 0),
    ]
    run("list", "classifier", "--folder", folder, "--json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["right"], row["truth"]) for row in rows] == [
        (True, "red"), (False, "blue"), (False, "green"), (False, None), (None, None)
    ]  # fmt: skip
    run("list", "classifier", "--folder", folder)
    assert "red 0.90" in capsys.readouterr().out
    run("list", "classifier", "--folder", folder, "--request", "r-1", "--json")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_class_folders_are_what_training_reads(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    run("export", "classifier", out, "--folder", folder)
    assert "3 items; 2 without feedback were left out" in capsys.readouterr().err
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == [
        "blue/00000002.png", "green/00000003.png", "items.jsonl", "red/00000001.png"
    ]  # fmt: skip
    classes, splits = open_images(str(out), Inspection(), Problems())
    assert classes == ("blue", "green", "red")
    assert len(splits["train"]) == 3
    first = json.loads((out / "items.jsonl").read_text().splitlines()[0])
    assert (first["file"], first["request"], first["version"]) == ("red/00000001.png", "r-0", "1")
    assert (first["typicality"], first["answer"], first["truth"]) == (0.4, "red", "red")


def test_parquet_is_what_training_reads(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    run("export", "classifier", out, "--folder", folder, "--layout", "parquet", "--unchecked")
    assert pq.read_table(out / "train.parquet").column("label").to_pylist() == ["red", "blue", "green", "red"]
    classes, splits = open_images(str(out), Inspection(), Problems())
    assert classes == ("blue", "green", "red")
    assert splits["train"].files.read(0) == encode(solid("red"))


def test_a_hostile_label_leaves_the_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for number, label in enumerate(("../../up", "..", ".hidden", "a\\b", "ü" * 150)):
        folder = keep(tmp_path / f"captures{number}", [item(0)], [feedback(0, {"truth": label}, label)])
        run("export", "classifier", tmp_path / f"out{number}", "--folder", folder, code=1)
        assert "cannot be the name of a folder: use --layout parquet" in capsys.readouterr().err
        assert not list((tmp_path / f"out{number}").rglob("*.png"))
        run("export", "classifier", tmp_path / f"as{number}", "--folder", folder, "--layout", "parquet")


def test_coco_is_what_training_reads(tmp_path: Path):
    from training.detection.formats.json_files import read_coco
    from training.detection.formats.raw import Tree

    # The image was scaled to half of what was sent.
    truth = [{"label": "WBC", "x_min": 20.0, "y_min": 10.0, "x_max": 60.0, "y_max": 50.0}]
    image = encode(photograph(30, 40), "JPEG")
    mine = item(0, model="detector", operation="detect", answer=BOXES, media_type="image/jpeg", content=image)
    folder = keep(tmp_path / "captures", [mine], [feedback(0, {"truth": truth}, truth, model="detector")])
    out = tmp_path / "out"
    run("export", "detector", out, "--folder", folder)
    document = json.loads((out / "annotations.json").read_text())
    assert document["annotations"][0]["bbox"] == [10, 5, 20, 20]
    assert (document["images"][0]["width"], document["images"][0]["height"]) == (40, 30)
    data = read_coco(Tree(out), [out / "annotations.json"])
    assert data.classes == ("WBC",)
    assert data.problems.count == 0


def test_texts_and_rows_are_what_training_reads(tmp_path: Path):
    record = json.dumps({"text": "oil, and\nmore"}).encode()
    text = item(0, model="topics", operation="classify-text", media_type="application/json", content=record)
    row = item(
        1, model="tabular", media_type="application/json", content=b'{"age": 5.5, "city": "Rome"}',
        answer={"target": "price", "value": 3.5},
    )  # fmt: skip
    said = [
        feedback(0, {"truth": "crude"}, "crude", model="topics"),
        feedback(1, {"truth": 4.25}, 4.25, model="tabular"),
    ]
    folder = keep(tmp_path / "captures", [text, row], said)
    run("export", "topics", tmp_path / "topics.csv", "--folder", folder)
    table = read_file(tmp_path / "topics.csv", Inspection(), Problems())
    assert (list(table.values("text")), list(table.values("label"))) == (["oil, and\nmore"], ["crude"])
    run("export", "tabular", tmp_path / "rows.csv", "--folder", folder)
    with (tmp_path / "rows.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"age": "5.5", "city": "Rome", "price": "4.25"}]
    run("export", "tabular", tmp_path / "rows.jsonl", "--folder", folder, "--layout", "jsonl")
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == {"age": 5.5, "city": "Rome", "price": 4.25}


def test_label_studio_gets_predictions_and_annotations(folder: Path, tmp_path: Path):
    boxes = item(9, model="detector", operation="detect", answer=BOXES, content=encode(photograph(60, 80)))
    keep(folder, [boxes])
    run("export", "classifier", tmp_path / "tasks.json", "--folder", folder, "--layout", "label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert len(tasks) == 5
    head, _, content = tasks[1]["data"]["item"].partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))), solid("red"))
    (prediction,) = tasks[1]["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("classifier/1", 0.9)
    assert prediction["result"][0]["value"] == {"choices": ["red"]}
    assert tasks[1]["annotations"][0]["result"][0]["value"] == {"choices": ["blue"]}
    assert "annotations" not in tasks[4]
    run("export", "detector", tmp_path / "boxes.json", "--folder", folder, "--layout", "label-studio")
    (task,) = json.loads((tmp_path / "boxes.json").read_text())
    assert task["predictions"][0]["result"][0]["value"] == {
        "x": 10, "y": 10, "width": 40, "height": 40, "rotation": 0, "rectanglelabels": ["RBC"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "out"], "there are no such items"),
        (
            ["classifier", "out", "--layout", "coco"],
            "does not fit items of predict: use folders, parquet, label",
        ),
        (["classifier", "out", "--request", "r-4"], "none of the items has feedback that says what is right"),
        (["classifier", "."], "is there already: name a new one"),
    ],
)
def test_what_cannot_be_exported(
    folder: Path, arguments: list[str], words: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    run("export", *arguments, "--folder", folder, code=1)
    assert words in capsys.readouterr().err


def test_deletion(folder: Path, capsys: pytest.CaptureFixture[str]):
    run("delete", "--folder", folder, code=2)
    assert "say what to delete" in capsys.readouterr().err
    run("delete", "--request", "r-1", "--folder", folder)
    assert "Deleted 1 item, and 1 entry of feedback." in capsys.readouterr().err
    run("delete", "classifier", "--until", "1999-01-01", "--folder", folder)
    assert "Deleted 0 items, and 0 entries of feedback." in capsys.readouterr().err
    run("delete", "--all", "--folder", folder)
    assert "Deleted 4 items, and 3 entries of feedback." in capsys.readouterr().err
    run("list", "--folder", folder.parent, code=1)
    assert "holds no captures" in capsys.readouterr().err
