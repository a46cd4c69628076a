import json

import pytest
import torch

from course import study, transfer
from course.transfer import METHODS, TransferSettings, main, write_report
from training.backbones.registry import load_backbone
from training.data.dataset import DataError


def test_each_method_count_and_seed_is_in_the_tables_and_in_the_picture(tmp_path):
    settings, seeds = TransferSettings(counts=(10, 20), scratch_steps=(3, 4), tuned_steps=(1, 2)), range(2)
    cells = {
        f"{method}, {count} images, seed {seed}": {"train_accuracy": 1.0, "accuracy": count / 100 + seed / 10}
        for method in METHODS for count in settings.counts for seed in seeds
    }  # fmt: skip
    tried = {"from scratch, rate 0.001": {"train_accuracy": 1.0, "accuracy": 0.25}}
    write_report(tmp_path, cells, tried, settings, seeds)
    report = (tmp_path / "README.md").read_text()
    assert "| frozen | 0.1500 ± 0.0707 | 0.2500 ± 0.0707 |" in report
    assert "3 and 4 steps for 10 and 20 images" in report
    assert "| from scratch, rate 0.001 | 0.250 |" in report
    assert (tmp_path / "accuracy.png").is_file()


def test_the_best_rate_of_a_method_is_chosen():
    tried = {
        "from scratch, rate 0.001": {"accuracy": 0.2},
        "from scratch, rate 0.01": {"accuracy": 0.3},
        "fine-tuned, rate 0.0001": {"accuracy": 0.9},
    }
    assert (transfer._best("from scratch", tried), transfer._best("fine-tuned", tried)) == (0.01, 1e-4)


def test_a_small_study_keeps_its_cells(write_class_folders, colours, tmp_path, monkeypatch):
    weights = tmp_path / "weights.pt"
    torch.save(load_backbone("tf_efficientnet_lite0", "none").module.state_dict(), weights)
    # In this process: another one would have to import everything.
    monkeypatch.setattr(study, "available_cpus", lambda: 1)
    source = write_class_folders(tmp_path / "data", _=(colours.train.images, colours.train.labels))
    folder = tmp_path / "study"
    small = ["--counts", "6,12", "--scratch-steps", "2,2", "--tuned-steps", "2,2", "--seeds", "1"]
    main(["--data", source, "--folder", str(folder), "--weights", str(weights), *small])
    rows = json.loads((folder / "study.json").read_text())["rows"]
    assert set(rows) == {f"{method}, {count} images, seed 0" for method in METHODS for count in (6, 12)}
    assert all(0 <= value <= 1 for row in rows.values() for value in row.values())
    tried = json.loads((folder / "rates" / "study.json").read_text())["rows"]
    assert len(tried) == 6
    with pytest.raises(DataError, match="the study takes 500 images"):
        main(["--data", source, "--folder", str(folder), "--weights", str(weights), "--counts", "5,500"])
