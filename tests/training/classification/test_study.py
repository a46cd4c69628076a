import json
from dataclasses import replace

import pytest

from training.classification.study import Variant, run_study
from training.classification.task import ClassificationSettings
from training.data.augment import Augment
from training.data.splits import selection_of
from training.engine.settings import FitSettings

SETTINGS = FitSettings(epochs=50, batch_size=512, lr=0.8)
LEARNING = ClassificationSettings(augment=Augment(translate=1, cutout=3))


@pytest.fixture
def studied(monkeypatch):
    monkeypatch.setattr("training.classification.study.EPOCHS", 2)
    monkeypatch.setattr("training.classification.study.IMAGES", 60)
    monkeypatch.setattr("training.classification.study.MEASURED", 20)
    monkeypatch.setattr("training.classification.study.SEEDS", 2)


@pytest.fixture
def make(tiny_cnn):
    def of(seeds, **settings):
        def build(seed):
            seeds.append(seed)
            return tiny_cnn(**settings)

        return Variant(build)

    return of


def test_each_variant_gets_a_row_of_the_same_short_trainings(studied, make, colours, accelerator, console, tmp_path):
    seeds, others = [], []
    variants = {"as it is": make(seeds), "dropout 0.5": make(others, dropout=0.5)}
    path = tmp_path / "study.json"
    rows = run_study(variants, colours, replace(SETTINGS, seed=3), LEARNING, path, accelerator, console)
    assert [row["change"] for row in rows] == ["as it is", "dropout 0.5"]
    assert seeds == others == [3, 4]
    assert all((row["epochs"], row["train"], row["measured"]) == (2, 60, 20) for row in rows)
    for row in rows:
        assert all(len(row[name]) == 2 for name in ("train_accuracy", "validation_accuracy"))
        assert all(0 <= value <= 1 for value in row["train_accuracy"] + row["validation_accuracy"])
        assert row["seconds"] > 0
    assert json.loads(path.read_text())["rows"] == rows


def test_variants_already_measured_are_not_trained_again(studied, make, colours, accelerator, console, tmp_path):
    path, built = tmp_path / "study.json", []
    first = run_study({"as it is": make([])}, colours, SETTINGS, LEARNING, path, accelerator, console)

    def never(seed):
        pytest.fail("trained again")

    variants = {"as it is": Variant(never), "dropout": make(built, dropout=0.2)}
    rows = run_study(variants, colours, SETTINGS, LEARNING, path, accelerator, console)
    assert rows[0] == first[0]
    assert len(rows) == 2
    assert built == [0, 1]


def test_rows_measured_on_all_of_validation_are_measured_again(
    studied, make, colours, accelerator, console, monkeypatch, tmp_path
):
    monkeypatch.setattr("training.classification.study.MEASURED", 10)  # fewer than a half
    for data in (colours, selection_of(colours)):
        built = []
        run_study({"as it is": make(built)}, data, SETTINGS, LEARNING, tmp_path / "study.json", accelerator, console)
        assert built == [0, 1]


def test_rows_of_other_settings_are_measured_again(studied, make, colours, accelerator, console, tmp_path):
    path = tmp_path / "study.json"
    for rate in (0.8, 0.4):
        built = []
        settings = replace(SETTINGS, lr=rate)
        run_study({"as it is": make(built)}, colours, settings, LEARNING, path, accelerator, console)
        assert built == [0, 1]
