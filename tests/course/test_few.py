import pytest

from course import study
from course.few import FewSettings, main, write_report
from training.data.dataset import DataError


@pytest.fixture
def source(write_class_folders, colours, tmp_path):
    splits = {name: getattr(colours, name) for name in ("train", "validation", "test")}
    folders = {name: (split.images, split.labels) for name, split in splits.items()}
    return write_class_folders(tmp_path / "data", **folders)


def test_each_seed_gets_a_row(source, tmp_path, monkeypatch):
    # In this process: another one would have to import everything.
    monkeypatch.setattr(study, "available_cpus", lambda: 1)
    small = ["--per-class", "5", "--generated", "5", "--autoencoder-epochs", "2", "--steps", "4", "--seeds", "2"]
    main(["--data", source, "--folder", str(tmp_path / "study"), *small])
    report = (tmp_path / "study" / "README.md").read_text()
    assert report.count("| 0 | ") == report.count("| 1 | ") == 1
    assert "There are 5 labelled images of each class" in report


def test_a_class_with_too_few_images_is_named(source, tmp_path):
    with pytest.raises(DataError, match=r"takes 50 images of each class; 'blue' has 40"):
        main(["--data", source, "--folder", str(tmp_path / "study"), "--per-class", "50"])


def test_latents_are_compared_with_pixels(tmp_path):
    row = {"real": 0.9, "with_generated": 0.8, "pixels": 0.7, "latents": 0.95}
    write_report(tmp_path, {"0": row, "1": row | {"with_generated": 0.95}}, FewSettings(per_class=20))
    report = (tmp_path / "README.md").read_text()
    assert "Mean gain: -0.0250 ± 0.1061; 1 of 2 gains are positive." in report
    assert "| 0 | 0.7000 | 0.9500 |" in report
    assert "0.7000 ± 0.0000 on pixels, 0.9500 ± 0.0000 on latents, 0.9000 ± 0.0000 with the convolutional" in report
