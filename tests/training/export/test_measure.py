"""Published versions of every task, measured on new labelled data by `quartet evaluate`."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import encode
from tests.tiny import solid, write_model
from tests.tiny_autoencoder import SIDE, write_autoencoder
from tests.tiny_detector import scene, write_detector
from tests.tiny_tabular import write_tabular
from tests.tiny_text import write_topics
from training.__main__ import main
from training.detection import evaluation
from training.export.labelled import Figure


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_model(folder, intervals={"accuracy": (0.5, 0.99)})
    write_autoencoder(folder)
    write_detector(folder)
    write_tabular(folder)
    write_tabular(folder, "sums", "regression")
    write_topics(folder)
    return folder


@pytest.fixture
def evaluate(models, tmp_path, capsys):
    """Measures a model; returns the exit code, what was printed, and what was written."""

    def run(model, data, *options):
        output = tmp_path / "measured.json"
        code = main(
            ["evaluate", model, "--data", str(data), "--models", str(models), "--output", str(output), *options],
            prog="quartet",
        )
        printed = capsys.readouterr()
        return code, printed.out + printed.err, json.loads(output.read_text()) if output.exists() else None

    return run


def write_images(folder, **classes):
    """A folder of images for each class, whose colours are given."""
    for name, colours in classes.items():
        for number, colour in enumerate(colours):
            path = folder / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(solid(colour)))
    return folder


def write_table(path, header, *rows, delimiter=","):
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def test_images_of_some_of_the_classes(evaluate, tmp_path):
    data = write_images(tmp_path / "new", red=["red"] * 6 + ["blue"], blue=["blue"] * 3)
    code, said, found = evaluate("classifier", data)
    assert code == 0
    accuracy = found["figures"]["accuracy"]
    assert accuracy["value"] == 0.9
    assert accuracy["interval"][0] < 0.9 < accuracy["interval"][1]
    assert accuracy["verdict"] == "no significant difference"
    assert found["model"] == "classifier/1"
    assert found["items"] == 10
    assert [row["class"] for row in found["classes"]] == ["blue", "red"]
    assert found["classes"][1]["taken for"] == "blue (1)"
    (worst,) = found["worst"]
    assert worst["item"].endswith("red/6.png")
    assert (worst["label"], worst["answer"]) == ("red", "blue")
    assert "no images of the labels green: nothing is measured of them" in said
    assert "classifier/1 on 10 images of new\n" in said


def test_a_figure_that_fell_is_called_worse(evaluate, models, tmp_path):
    write_model(models, "proud", intervals={"accuracy": (0.98, 0.995)})
    data = write_images(tmp_path / "new", red=["red"] * 20 + ["blue"] * 20, blue=["blue"])
    _, said, found = evaluate("proud", data)
    assert found["figures"]["accuracy"]["verdict"] == "worse"
    low, high = found["figures"]["accuracy"]["difference_interval"]
    assert low < high < 0
    assert ": worse" in said


def test_a_figure_that_is_no_number_is_neither_better_nor_worse():
    assert (
        Figure(name="r2", value=math.nan, interval=(math.nan, math.nan), card=0.8, card_interval=(0.7, 0.9)).verdict
        == ""
    )


def test_a_damaged_image_and_an_unknown_label_are_named(evaluate, tmp_path):
    data = write_images(tmp_path / "new", red=["red", "red"], blue=["blue"])
    (data / "red" / "9.png").write_bytes(b"damaged")
    code, said, found = evaluate("classifier", data)
    assert code == 1
    assert found is None
    assert "red/9.png: Undecodable image" in said
    assert "--bad drop" in said
    write_images(data, Red=["red"])
    code, said, found = evaluate("classifier", data)
    assert code == 1
    assert "Red/0.png: the model has no label 'Red': did you mean red?" in said
    code, said, found = evaluate("classifier", data, "--bad", "drop")
    assert code == 0
    assert found["items"] == 3
    assert found["figures"]["accuracy"]["value"] == 1
    assert len(found["left_out"]) == 2
    assert "red/9.png" in said


def test_data_of_other_classes_are_refused(evaluate, tmp_path):
    for data, model in (
        (write_images(tmp_path / "new", cats=["red"], dogs=["blue"]), "classifier"),
        (write_table(tmp_path / "new.csv", ("text", "label"), ("a cat", "cats"), ("a dog", "dogs")), "topics"),
    ):
        code, said, _ = evaluate(model, data)
        assert code == 1
        assert "none of its labels (cats, dogs) is one of the model's" in said.replace("\n", " ")
        assert "--bad drop" not in said


def test_a_split_alone_without_a_training_split(evaluate, tmp_path):
    write_images(tmp_path / "new" / "test", red=["red"])
    write_images(tmp_path / "new" / "validation", red=["blue"], blue=["blue"])
    assert evaluate("classifier", tmp_path / "new")[2]["splits"] == {"test": 1, "validation": 2}
    _, _, found = evaluate("classifier", tmp_path / "new", "--split", "test")
    assert found["splits"] == {"test": 1}
    assert found["figures"]["accuracy"]["value"] == 1
    code, said, _ = evaluate("classifier", tmp_path / "new", "--split", "train")
    assert code == 1
    assert "has no split 'train'; it has " in said


def test_the_data_of_the_training_are_recognised(evaluate, models, tmp_path):
    data = json.loads((models / "classifier" / "1" / "manifest.json").read_text())["data"]
    write_model(models, "small", data={**data, "train": 2, "validation": 1, "test": 1})
    source = write_images(tmp_path / "new", red=["red"] * 3, blue=["blue"])
    assert "the figures are too good" in evaluate("small", source)[1].replace("\n", " ")
    (source / "red" / "2.png").unlink()
    assert "has exactly as many" not in evaluate("small", source)[1]


def test_texts(evaluate, tmp_path):
    rows = [("7", 'a "cat",\nand a dog', "animals"), ("8", "oak", "plants"), ("9", "fern", "animals")]
    data = write_table(tmp_path / "new.csv", ("id", "text", "label"), *rows, delimiter=";")
    code, said, found = evaluate("topics", data)
    assert code == 0
    assert found["figures"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["worst"][0]["item"] == "new.csv:5"
    assert found["worst"][0]["text"] == "fern"
    assert "fern" in said


def test_texts_that_cannot_be_answered_are_named(evaluate, tmp_path):
    rows = [("cat", "animals"), ("", "plants"), ("oak", ""), ("oak", "minerals"), (" ", "plants"), ("oak", "plants")]
    data = write_table(tmp_path / "new.csv", ("text", "label"), *rows)
    code, said, _ = evaluate("topics", data)
    assert code == 1
    for line in ("new.csv:3: the text is missing", "new.csv:4: the label is missing", "has no label 'minerals'"):
        assert line in said
    assert evaluate("topics", data, "--bad", "drop")[2]["items"] == 2


def test_rows_of_classes(evaluate, tmp_path):
    rows = [(1, 2, 3, "area"), (2, 5, 1, "RADIUS"), (3, "", 1, "area"), (4, 7, 1, "area")]
    data = write_table(tmp_path / "new.csv", ("id", "mean radius", "area", "largest"), *rows)
    code, _, found = evaluate("tabular", data)
    assert code == 0
    assert found["figures"]["accuracy"]["value"] == 0.75
    assert found["worst"][0]["item"] == "new.csv:5"
    data = write_table(tmp_path / "other.csv", ("id", "mean_radius", "area", "largest"), *rows)
    code, said, _ = evaluate("tabular", data)
    assert code == 1
    assert "lacks the column mean radius; it has id, mean_radius, area, largest. mean radius: did you mean" in said
    assert evaluate("tabular", write_table(tmp_path / "empty.csv", ("mean radius", "area", "largest")))[0] == 1


def test_rows_of_numbers_with_a_target_of_another_name(evaluate, tmp_path):
    random = np.random.default_rng(0)
    rows = [(a, b, a + b + (5 if number == 3 else 0)) for number, (a, b) in enumerate(random.random((30, 2)).round(4))]
    data = write_table(tmp_path / "new.csv", ("mean radius", "area", "sum"), *rows)
    assert "lacks the column of the target, largest" in evaluate("sums", data)[1]
    code, _, found = evaluate("sums", data, "--label-column", "sum")
    assert code == 0
    assert found["worst"][0]["item"] == "new.csv:5"
    figures = {name: figure["value"] for name, figure in found["figures"].items()}
    assert figures["mae"] == pytest.approx(5 / 30, abs=1e-4)
    assert figures["rmse"] == pytest.approx(np.sqrt(25 / 30), abs=1e-4)
    assert evaluate("sums", data, "--label-column", "sum", "--limit", "10")[2]["items"] == 10


def write_coco(folder, areas, label="red"):
    """A COCO data set of an image for each area, of that colour."""
    (folder / "train").mkdir(parents=True)
    images, boxes = [], []
    for number, (x, y, width, height) in enumerate(areas):
        pixels = scene(96, 128, red=(x, y, x + width, y + height))
        (folder / "train" / f"{number}.png").write_bytes(encode(pixels))
        images.append({"id": number, "file_name": f"{number}.png", "height": 96, "width": 128})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, width, height]})
    boxes[-1]["bbox"] = [0, 0, 10, 10]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": label}]}
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(document))
    return folder


def test_boxes(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "RESAMPLES", 20)
    data = write_coco(tmp_path / "new", [(20, 20, 30, 24), (60, 40, 24, 30), (30, 50, 20, 20), (90, 60, 20, 20)])
    code, said, found = evaluate("detector", data)
    assert code == 0
    figures = {name: figure["value"] for name, figure in found["figures"].items()}
    assert figures["precision"] == figures["recall"] == 0.75
    assert 0.6 < figures["map_50"] < 1
    assert found["worst"] == [{"image": found["worst"][0]["image"], "objects": 1, "missed": 1, "false": 1}]
    assert Path(found["worst"][0]["image"]).name == "3.png"
    assert [row["class"] for row in found["classes"]] == ["red"]
    code, said, _ = evaluate("detector", write_coco(tmp_path / "other", [(20, 20, 30, 24)], "reed"))
    assert code == 1
    assert "the model has no label 'reed': did you mean red?" in said


def test_images_to_restore(evaluate, tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "new").mkdir()
    for number in range(5):
        # The tiny network restores means of squares, so an image of one brightness is restored exactly.
        noise = random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        (tmp_path / "new" / f"{number}.png").write_bytes(encode(noise if number == 3 else np.full_like(noise, 90)))
    code, _, found = evaluate("autoencoder", tmp_path / "new")
    assert code == 0
    worst = found["worst"][0]
    assert Path(worst["image"]).name == "3.png"
    assert found["figures"]["mse"]["value"] == pytest.approx(worst["squared error"] / 5)
    code, said, _ = evaluate("encoder", tmp_path / "new")
    assert code == 1
    assert "measure the autoencoder" in said


def test_what_cannot_be_measured_takes_one_line(evaluate, models, tmp_path, capsys):
    for data, why in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "no class folders of images")):
        code, said, found = evaluate("classifier", data)
        assert (code, found) == (1, None)
        assert why in said
    given = ["evaluate", "classifier", "--data", str(tmp_path), "--models", str(models)]
    assert main([*given, "--output", str(tmp_path / "no" / "such.json")]) == 1
    assert "--output" in capsys.readouterr().err
    for options, why in (
        (["--force"], "--force has no effect without"),
        (["--renew", "--split", "test"], "--split has"),
    ):
        with pytest.raises(SystemExit):
            main([*given, *options])
        assert why in capsys.readouterr().err
