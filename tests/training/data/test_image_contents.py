import os
import sqlite3

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from service.tasks.images import EncodedImage
from training.data.contents import fingerprint, fingerprint_like
from training.data.images import load_images
from training.data.lazy import LazyImages
from training.engine.loader import batch_of


class Batches(torch.utils.data.Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, item):
        return batch_of(self.images, torch.tensor([item]))


@pytest.fixture(params=["folders", "parquet"])
def source(request, write_class_folders, write_parquet, draw, tmp_path, monkeypatch):
    """Images that do not fit into memory."""
    monkeypatch.setattr("training.data.images.IN_MEMORY", 0)
    whole = draw(12)
    write = write_class_folders if request.param == "folders" else write_parquet
    return write(tmp_path / "set", train=(whole.images, whole.labels))


@pytest.fixture
def opened(monkeypatch):
    """The encoded images that were opened."""
    seen = []
    really = EncodedImage.open

    def note(data):
        seen.append(data)
        return really(data)

    monkeypatch.setattr("training.data.images.EncodedImage.open", note)
    return seen


def test_only_the_first_start_decodes_all_images(source, opened):
    first = load_images(source)
    at_first = len(opened)
    opened.clear()
    again = load_images(source)
    assert at_first - len(opened) == 36
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.train.images[:], first.train.images[:])


def test_the_cache_has_the_size_of_the_files(source, data_cache):
    size = load_images(source).shape[:2]
    (data_cache / "quartet" / "contents.sqlite").unlink()
    load_images(source, size=16)
    with sqlite3.connect(data_cache / "quartet" / "contents.sqlite") as cache:
        assert set(cache.execute("SELECT height, width FROM images")) == {size} != {(16, 16)}


def test_a_file_that_changed_is_decoded_again(write_class_folders, draw, tmp_path, monkeypatch):
    monkeypatch.setattr("training.data.images.IN_MEMORY", 0)
    whole = draw(12)
    source = write_class_folders(tmp_path / "set", train=(whole.images, whole.labels))
    first = load_images(source)
    path, other = sorted((tmp_path / "set").rglob("*.png"))[3:5]
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(0, 0))
    assert load_images(source).fingerprint != first.fingerprint
    path.write_bytes(b"no image")
    assert len(load_images(source, bad="drop").inspection.dropped) == 1


def test_a_cache_that_cannot_be_used_only_costs_time(source, opened, tmp_path, monkeypatch):
    first = load_images(source)
    (tmp_path / "quartet").mkdir()
    (tmp_path / "quartet" / "contents.sqlite").write_text("no database, but long enough to be taken for a damaged one")
    monkeypatch.setattr("training.data.hub.cache_folder", lambda: tmp_path)
    opened.clear()
    assert load_images(source).fingerprint == first.fingerprint
    assert len(opened) >= 36


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_loader_decode(source, context):
    images = load_images(source).train.images
    assert isinstance(images, LazyImages)
    expected = images[:]  # by threads, before the workers start
    loader = DataLoader(Batches(images), batch_size=None, num_workers=1, multiprocessing_context=context)
    np.testing.assert_array_equal(torch.cat(list(loader)).numpy(), expected)


def test_versions_with_a_fingerprint_of_pixels_are_compared_by_pixels(source, monkeypatch):
    lazy = load_images(source)
    monkeypatch.setattr("training.data.images.IN_MEMORY", 1 << 30)
    whole = load_images(source)
    assert whole.fingerprint == lazy.fingerprint == fingerprint_like(lazy, "files-sha256:0")
    assert whole.pixel_fingerprint() == fingerprint_like(lazy, "sha256:0") == fingerprint_like(whole, "sha256:0")
    assert whole.pixel_fingerprint() == fingerprint(
        "sha256",
        (
            part.tobytes()
            for split in (whole.train, whole.validation, whole.test)
            for part in (split.images, split.labels)
        ),
    )
