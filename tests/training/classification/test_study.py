import json
from dataclasses import replace

import pytest

from training.augment import Augment
from training.classification.study import run_study
from training.classification.task import ClassificationSettings
from training.settings import FitSettings

SETTINGS = FitSettings(epochs=50, batch_size=512, lr=0.8)
LEARNING = ClassificationSettings(augment=Augment(translate=1, cutout=3))


@pytest.fixture
def studied(monkeypatch):
    monkeypatch.setattr("training.classification.study.EPOCHS", 2)
    monkeypatch.setattr("training.classification.study.IMAGES", 60)


def test_each_variant_gets_a_row_of_the_same_short_training(studied, tiny_cnn, colours, accelerator, console, tmp_path):
    variants = {"as it is": tiny_cnn, "dropout 0.5": lambda: tiny_cnn(dropout=0.5)}
    path = tmp_path / "study.json"
    rows = run_study(variants, colours, SETTINGS, LEARNING, path, accelerator, console)
    assert [row["change"] for row in rows] == ["as it is", "dropout 0.5"]
    assert all((row["epochs"], row["train"]) == (2, 60) for row in rows)
    assert rows[0]["parameters"] == sum(p.numel() for p in tiny_cnn().parameters())
    assert all(0 <= row["train_accuracy"] <= 1 and row["seconds"] > 0 for row in rows)
    assert json.loads(path.read_text())["rows"] == rows


def test_variants_already_measured_are_not_trained_again(studied, tiny_cnn, colours, accelerator, console, tmp_path):
    path = tmp_path / "study.json"
    first = run_study({"as it is": tiny_cnn}, colours, SETTINGS, LEARNING, path, accelerator, console)
    built = []

    def build():
        built.append(1)
        return tiny_cnn(dropout=0.2)

    def never():
        pytest.fail("trained again")

    rows = run_study({"as it is": never, "dropout": build}, colours, SETTINGS, LEARNING, path, accelerator, console)
    assert rows[0] == first[0]
    assert len(rows) == 2
    assert built == [1]


def test_rows_of_other_settings_are_measured_again(studied, tiny_cnn, colours, accelerator, console, tmp_path):
    path = tmp_path / "study.json"
    for rate in (0.8, 0.4):
        settings = replace(SETTINGS, lr=rate)
        built = []

        def build(built=built):
            built.append(1)
            return tiny_cnn()

        run_study({"as it is": build}, colours, settings, LEARNING, path, accelerator, console)
        assert built == [1]
