import json

import numpy as np
import pytest
from scipy.stats import ttest_ind

from course import study
from course.filters import _p_value, compare, main, variants
from training.classification.network import MLP, build
from training.classification.options import NetworkSettings


def test_each_variant_differs_in_one_thing(colours):
    networks = {
        name: build(each, colours, 0) for name, each in variants(NetworkSettings(arch="cnn", widths=(8, 16))).items()
    }
    weights = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    assert len(weights) == 8
    assert isinstance(networks["dense layers"], MLP)
    base = weights["unchanged"]
    assert weights["half the filters (4, 8)"] < base < weights["1.5 times the filters (12, 24)"]
    assert weights["2 convolutions per group"] < base < weights["4 convolutions per group"]
    assert weights["dropout 0.2"] == weights["dropout 0.5"] == base
    assert [networks[f"dropout {rate}"].dropout.p for rate in (0.2, 0.5)] == [0.2, 0.5]
    assert not any("0 convolutions" in name for name in variants(NetworkSettings(arch="cnn", depth=1)))


def test_a_difference_is_clear_if_chance_hardly_gives_it():
    before = [0.5, 0.51, 0.49, 0.5, 0.5]
    assert compare(before, [0.6, 0.61, 0.59, 0.6, 0.6], 0.01) == "higher"
    assert compare(before, [0.4, 0.41, 0.39, 0.4, 0.4], 0.01) == "lower"
    # All values are above all others, as in a tenth of the comparisons of three with three by chance.
    assert compare([0.5, 0.51, 0.52], [0.53, 0.54, 0.6], 0.05 / 7) == "no clear difference"
    # A single training has no spread.
    assert compare([0.5], [0.9], 0.05) == "no clear difference"
    assert compare([1.0, 1.0], [1.0, 1.0], 0.05) == "no clear difference"


def test_the_p_value_is_that_of_welchs_test():
    before, after = [0.5, 0.51, 0.49, 0.53], [0.52, 0.55, 0.5]
    assert _p_value(before, after) == pytest.approx(ttest_ind(before, after, equal_var=False).pvalue)


def test_chance_gives_a_clear_difference_in_few_studies():
    random, found = np.random.default_rng(0), 0
    for _ in range(200):
        base, *others = random.normal(size=(8, 5))
        found += any(compare(base, other, 0.05 / 7) != "no clear difference" for other in others)
    assert found <= 20


def test_the_study_writes_a_row_for_each_variant_and_a_figure(write_class_folders, colours, tmp_path, monkeypatch):
    # In this process: another one would have to import everything.
    monkeypatch.setattr(study, "available_cpus", lambda: 1)
    source = write_class_folders(tmp_path / "data", _=(colours.train.images, colours.train.labels))
    small = ["--widths", "4,4", "--depth", "2", "--images", "20", "--epochs", "1", "--seeds", "2"]
    main(["--data", source, "--folder", str(tmp_path / "study"), *small])
    report = (tmp_path / "study" / "README.md").read_text()
    assert report.count("\n| ") == 1 + 8
    assert "Each row is 2 trainings of 1 epochs on the same 20 training images" in report
    assert "![Accuracy by change](study.png)" in report
    assert (tmp_path / "study" / "study.png").is_file()
    rows = json.loads((tmp_path / "study" / "study.json").read_text())["rows"]
    for row in rows.values():
        assert len(row["train_accuracy"]) == len(row["validation_accuracy"]) == 2
        assert all(0 <= value <= 1 for value in row["train_accuracy"] + row["validation_accuracy"])
