import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from training.classification.report import CURVES, write_report
from training.data.images import ImageData, ImageSplit
from training.export.figures import evaluate
from training.report.card import CARD, render_card
from training.report.curves import write_curves

STATE = SimpleNamespace(
    best_epoch=2,
    initial={"loss": 1.1, "accuracy": 0.3},
    history=[
        {"train_cross_entropy": 1.0, "train_accuracy": 0.5, "validation_loss": 0.9, "validation_accuracy": 0.6},
        {"train_cross_entropy": 0.5, "train_accuracy": 0.8, "validation_loss": 0.6, "validation_accuracy": 0.9},
    ],
)


def evaluation_of(data, mistakes=()):
    """The evaluation of a network that misclassifies only the given test images, each as the next class."""
    count = len(data.classes)
    answers = data.test.labels.copy()
    answers[list(mistakes)] = (answers[list(mistakes)] + 1) % count
    truth = np.eye(count, dtype=np.float32)
    validation = 3 * truth[data.validation.labels]
    validation[0] = validation[0][::-1]
    return evaluate(data.classes, validation, data.validation.labels, 3 * truth[answers], data.test.labels)


def linked(text):
    return re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)


@pytest.fixture
def report(colours, make_manifest, tmp_path):
    def make(data=colours, mistakes=(1, 4, 25)):
        evaluation = evaluation_of(data, mistakes)
        write_report(tmp_path, evaluation, data)
        write_curves(tmp_path, STATE, *CURVES)
        render_card(tmp_path, make_manifest(data=data, evaluation=evaluation))
        return (tmp_path / CARD).read_text()

    return make


def test_every_linked_plot_is_there_and_every_plot_is_linked(report, tmp_path):
    names = linked(report())
    assert len(names) == 5
    assert sorted(names) == sorted(path.name for path in (tmp_path / "report").glob("*.png"))
    for name in names:
        with Image.open(tmp_path / "report" / name) as image:
            assert min(image.size) > 100
            assert len(np.unique(np.asarray(image.convert("L")))) > 2


def test_card_says_the_figures_of_the_manifest(report):
    text = report()
    assert "**Test accuracy 0.9000** on the 30 test images of colours" in text
    assert "sha256:0" in text


def test_per_class_table_has_a_row_a_class(report):
    table = report().split("## Per class")[1].split("!")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") for row in rows] == ["blue", "green", "red"]
    assert [row[-1].removesuffix(" |") for row in rows] == ["10", "10", "10"]
    assert rows[0][2] == "0.8000"  # two of ten blue images were misclassified as green


def test_most_common_confusions_come_first(report):
    assert "Most common confusions: blue misclassified as green (2), red misclassified as blue (1)." in report()


def test_network_without_a_mistake_gets_a_card_without_empty_lists(report, tmp_path):
    report()
    text = report(mistakes=())
    assert not (tmp_path / "report" / "mistakes.png").exists()
    assert "Most common confusions: ." not in text
    assert "The 0 misclassified" not in text
    assert all((tmp_path / "report" / name).is_file() for name in linked(text))


def test_single_mistake_and_more_than_are_drawn(report):
    assert "The 1 misclassified test image with" in report(mistakes=(3,))
    assert "The 16 misclassified test images" in report(mistakes=range(30))


def test_grey_images_and_many_classes_are_drawn_without_an_unreadable_matrix(report, tmp_path):
    labels = np.tile(np.arange(40), 2)
    images = np.random.default_rng(0).integers(0, 256, (80, 6, 6, 1), dtype=np.uint8)
    split = ImageSplit(images, labels)
    text = report(data=ImageData("many", tuple(f"class {i}" for i in range(40)), split, split, split, "sha256:1"))
    assert "confusion.png" not in text
    assert not (tmp_path / "report" / "confusion.png").exists()
    assert "Most common confusions: " in text
