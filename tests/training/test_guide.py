"""quartet inspect and quartet train: from a data set to the recipe that suits it."""

import json

import pytest
from PIL import Image

from quartet.command_line import main
from service.tasks.registry import read_manifest
from training.command_line import DataCommand
from training.data.dataset import DataError
from training.guide import options_for


@pytest.fixture
def source(write_class_folders, draw, tmp_path):
    train, test = draw(20, seed=1), draw(8, seed=2)
    return write_class_folders(
        tmp_path / "colours", train=(train.images, train.labels), test=(test.images, test.labels)
    )


@pytest.fixture
def reviews(tmp_path):
    words = ("지루한 영화 별로", "좋은 영화 추천")
    lines = [f"{number},{words[number % 2]} {number},{number % 2}" for number in range(60)]
    (tmp_path / "reviews.csv").write_text("번호,내용,라벨\n" + "\n".join(lines), encoding="cp949")
    return tmp_path / "reviews.csv"


def test_inspecting_says_what_is_there_draws_it_and_trains_nothing(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", source]) == 0
    said = capsys.readouterr().out
    assert said.startswith("task: classification (images of classes), since it holds images of 3 classes")
    assert "of 3 classes: " in said
    assert [path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()] == ["samples.png"]
    Image.open(next((tmp_path / "runs").rglob("samples.png"))).verify()


def test_texts_are_recognised_with_their_columns_and_options_are_the_recipes(reviews, capsys):
    task, options = options_for("inspect", DataCommand(str(reviews), None, False, ["--epochs", "3"]))
    assert (task, options.text_column, options.label_column) == ("text", "내용", "라벨")
    assert (options.fit.epochs, options.bad) == (3, "drop")
    _, options = options_for("train", DataCommand(str(reviews), None, True, ["--text-column", "번호"]))
    assert (options.text_column, options.bad) == ("번호", "refuse")


def test_a_guessed_target_is_said_and_not_trained_on_unless_that_is_accepted(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,class\n" + "".join(f"{number},{number % 3}\n" for number in range(30)))
    data = str(tmp_path / "t.csv")
    with pytest.raises(DataError, match="--target, or accept 'class' with --yes"):
        options_for("train", DataCommand(data, None, False, []))
    assert "'class' is a guess" in capsys.readouterr().out
    assert options_for("train", DataCommand(data, None, True, []))[1].target == "class"
    assert options_for("train", DataCommand(data, None, False, ["--target", "a"]))[1].target == "a"


def test_a_training_from_the_data_to_a_published_model(source, tmp_path, capsys, monkeypatch, forget_accelerator):
    """The one training from end to end: asked for, tracked as nothing, published under a name of its own."""
    forget_accelerator()
    monkeypatch.chdir(tmp_path)
    tiny = [
        "--epochs",
        "1",
        "--batch-size",
        "10",
        "--widths",
        "8,8",
        "--depth",
        "2",
        "--lr",
        "0.2",
        "--device",
        "cpu",
        "--yes",
    ]
    assert main(["train", source, *tiny, "--publish", "--name", "colours"]) == 0
    *_, published, command, report, served = capsys.readouterr().out.splitlines()
    assert published.startswith("published models/colours/1: accuracy ")
    assert "?model=colours" in command
    assert report.endswith("models/colours/1/report/README.md")
    assert served.startswith("serve it: quartet serve;")
    assert read_manifest(tmp_path / "models" / "colours" / "1").labels == ("blue", "green", "red")
    # A name that was not asked for does not replace a model of other labels.
    manifest = tmp_path / "models" / "colours" / "1" / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(document | {"labels": ["cat", "dog", "bird"]}))
    (tmp_path / "models" / "colours").rename(tmp_path / "models" / "classifier")
    forget_accelerator()
    assert main(["train", source, *tiny, "--publish"]) == 1
    assert "holds a model of other labels (cat, dog, bird…): give yours a name of its own" in capsys.readouterr().err


def test_a_target_makes_a_table_of_what_holds_texts_as_well(reviews, capsys):
    task, options = options_for("train", DataCommand(str(reviews), None, True, ["--epochs", "3", "--target=라벨"]))
    assert (task, options.target) == ("tabular", "라벨")


def test_an_option_of_another_task_than_the_data_is_for_is_refused_with_the_tasks_that_it_is_for(reviews, source):
    with pytest.raises(
        ValueError, match="--image-size is for autoencoder, classification, detection, and this data for text: "
    ):
        options_for("train", DataCommand(str(reviews), None, True, ["--image-size", "8"]))
    with pytest.raises(ValueError, match="--wide is for text, and this data for classification: "):
        options_for("train", DataCommand(source, None, True, ["--epochs", "3", "--wide"]))


def test_inspecting_shows_what_there_is_beside_unusable_items(reviews, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reviews.write_text(reviews.read_text("cp949") + "\n61,,1\n62,,0\n", "cp949")
    assert main(["inspect", str(reviews)]) == 0
    said = capsys.readouterr().out
    assert "60 texts of 2 classes: 0 30, 1 30" in said
    assert "reviews.csv:62: the text is missing; also reviews.csv:63" in said
    assert said.endswith("A training refuses what was left out here, unless --bad drop is given.\n")


def test_texts_with_several_columns_of_labels_need_one_to_be_named(tmp_path, capsys):
    comments = "".join(f"ein langer Kommentar mit der Nummer {n}\t{n % 2}\t{'abc'[n % 3]}\n" for n in range(60))
    (tmp_path / "t.tsv").write_text(f"posts\tbiased\ttone\n{comments}")
    data = str(tmp_path / "t.tsv")
    with pytest.raises(DataError, match=r"holds texts. Name the column of labels with --label-column: biased, tone"):
        options_for("train", DataCommand(data, None, False, []))
    task, options = options_for("train", DataCommand(data, None, False, ["--label-column", "tone"]))
    assert (task, options.label_column) == ("text", "tone")


def test_texts_of_a_script_without_spaces_are_recognised(tmp_path):
    lines = "".join(f"{n % 2},房间很干净服务员也非常热情第{n}次入住\n" for n in range(60))
    (tmp_path / "t.csv").write_text(f"label,review\n{lines}")
    task, options = options_for("train", DataCommand(str(tmp_path / "t.csv"), None, False, []))
    assert (task, options.text_column, options.label_column) == ("text", "review", "label")
