import json

from course.filters import compare, main, variants
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


def test_a_difference_is_clear_if_all_seeds_agree():
    assert compare([0.5, 0.6], [0.61, 0.7]) == "higher"
    assert compare([0.5, 0.6], [0.3, 0.49]) == "lower"
    assert compare([0.5, 0.6], [0.55, 0.8]) == "no clear difference"


def test_the_study_writes_a_row_for_each_variant_and_a_figure(write_class_folders, colours, tmp_path):
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
