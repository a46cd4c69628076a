import sys

import datasets
import numpy as np
import pytest
from PIL import Image

from examples import make_parquet
from training.data.images import load_images


@pytest.fixture
def clone(tmp_path):
    """A repository of two classes whose images are all different."""
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for name in ("cat", "airplane"):
            folder = tmp_path / "clone" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:04}.jpg", quality=75)
    return tmp_path / "clone"


def rows(folder, split):
    part = datasets.load_dataset(str(folder))[split].cast_column("img", datasets.Image(decode=False))
    return [(part.features["label"].names[row["label"]], row["img"]["path"], row["img"]["bytes"]) for row in part]


def test_a_clone_becomes_a_data_folder_with_the_same_files_and_labels(clone, tmp_path):
    assert make_parquet.write_parquet(clone, tmp_path / "data", "img") == {"train": 24, "test": 6}
    for split, count in (("train", 24), ("test", 6)):
        found = rows(tmp_path / "data", split)
        assert len({(label, name) for label, name, _ in found}) == count
        for label, name, content in found:
            assert content == (clone / split / label / name).read_bytes()
    data = load_images(str(tmp_path / "data"))
    assert data.classes == ("airplane", "cat")
    assert data.shape == (4, 4, 3)


def test_the_order_is_that_of_the_committed_fingerprints(clone, tmp_path):
    make_parquet.write_parquet(clone, tmp_path / "data", "img")
    files = [(label, f"{number:04}.jpg") for label in ("airplane", "cat") for number in range(3)]
    found = [(label, name) for label, name, _ in rows(tmp_path / "data", "test")]
    assert found == [files[index] for index in (4, 2, 1, 0, 5, 3)]


def test_a_folder_that_is_no_clone_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "nothing"), str(tmp_path / "data"), "img"])
    with pytest.raises(SystemExit, match="nothing: needs the same class folders"):
        make_parquet.main()
    assert not (tmp_path / "data").exists()
