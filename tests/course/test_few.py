import pytest

from course.few import main
from training.data.dataset import DataError


@pytest.fixture
def source(write_class_folders, colours, tmp_path):
    splits = {name: getattr(colours, name) for name in ("train", "validation", "test")}
    folders = {name: (split.images, split.labels) for name, split in splits.items()}
    return write_class_folders(tmp_path / "data", **folders)


def test_each_seed_gets_a_row(source, tmp_path):
    small = ["--per-class", "5", "--generated", "5", "--autoencoder-epochs", "2", "--steps", "4", "--seeds", "2"]
    main(["--data", source, "--folder", str(tmp_path / "study"), *small])
    report = (tmp_path / "study" / "README.md").read_text()
    assert report.count("| 0 | ") == report.count("| 1 | ") == 1
    assert "With 5 real images per class" in report


def test_a_class_with_too_few_images_is_named(source, tmp_path):
    with pytest.raises(DataError, match=r"takes 50 images of each class; 'blue' has 40"):
        main(["--data", source, "--folder", str(tmp_path / "study"), "--per-class", "50"])
