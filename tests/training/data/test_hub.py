"""Undocumented behaviour of the `datasets` library that training depends on."""

import datasets
import numpy as np
import pytest

from training.data import hub
from training.data.dataset import DataError
from training.data.images import load_images

HINT = "datasets has changed what training/data/hub.py uses: adapt it or lower the bound in pyproject.toml"


@pytest.mark.parametrize("name", ["a.jpg", "b.PNG", "c.webp", "d.tiff"])
def test_the_image_folder_loader_knows_images_by_their_suffix(name, tmp_path):
    assert hub.is_image(tmp_path / name), HINT


def test_items_are_held_out_as_the_library_does_it():
    labels = np.random.default_rng(0).integers(0, 5, 300)
    features = datasets.Features({"row": datasets.Value("int64"), "label": datasets.ClassLabel(num_classes=5)})
    part = datasets.Dataset.from_dict({"row": np.arange(300), "label": labels}, features=features)
    divided = part.train_test_split(0.13, seed=3, stratify_by_column="label")
    kept, taken = hub.stratified_split(labels, 0.13, 3)
    assert (divided["train"]["row"][:], divided["test"]["row"][:]) == (kept.tolist(), taken.tolist()), HINT


def test_the_cache_is_where_the_library_says(data_cache):
    assert hub.cache_folder() == data_cache, HINT
    assert data_cache.is_dir()


def test_errors_of_the_library_name_the_source(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"my-data: cannot be loaded as a data set: "):
        hub.load("my-data", "csv", data_files=str(tmp_path / "x.csv"))


def test_the_validation_split_has_one_name(monkeypatch):
    part = datasets.Dataset.from_dict({"x": [1]})
    monkeypatch.setattr(datasets, "load_dataset", lambda _: {"train": part, "val": part, "test": part})
    assert set(hub.load("s", "s")) == {"train", "validation", "test"}


def test_a_train_split_is_needed(monkeypatch):
    part = datasets.Dataset.from_dict({"x": [1]})
    monkeypatch.setattr(hub, "load", lambda *_: {"test": part})
    with pytest.raises(DataError, match="some/set: has no train split, only test"):
        load_images("some/set")
