import pickle

import numpy as np
import pytest

from training.data.folds import divide, fold
from training.data.images import ImageSplit
from training.data.lazy import LazyImages
from training.text.data import TextData, TextSplit


def texts(count, start=0):
    labels = np.arange(start, start + count) % 3
    return TextSplit(tuple(f"text {number}" for number in range(start, start + count)), labels)


@pytest.fixture
def data():
    return TextData("texts", ("a", "b", "c"), texts(60), texts(12, 60), texts(9, 72), "sha256:0")


def test_every_item_is_held_out_once(data):
    folds = [fold(data, index, 4, 0) for index in range(4)]
    held = [text for each in folds for text in each.test.texts]
    assert sorted(held) == sorted(data.train.texts + data.validation.texts)
    for each in folds:
        parts = [set(split.texts) for split in (each.train, each.validation, each.test)]
        assert len(set.union(*parts)) == sum(map(len, parts)) == 72
        assert not set.union(*parts) & set(data.test.texts)
        assert np.bincount(each.test.labels).tolist() == [6, 6, 6]
        assert len(each.validation) == 9  # a sixth, as in the data set
    assert len({each.fingerprint for each in folds}) == 4
    assert folds[1].test.texts != fold(data, 1, 4, 1).test.texts


def test_a_class_of_one_item_is_not_held_out():
    labels = np.array([0] * 9 + [1])
    held = np.concatenate([divide(labels, index, 5, 0)[0] for index in range(5)])
    assert sorted(held) == list(range(9))


def test_images_on_disk_stay_there(colours):
    def lazy(split):
        return ImageSplit(LazyImages(split.images.__getitem__, np.arange(len(split)), (12, 12, 3)), split.labels)

    parts = {name: lazy(getattr(colours, name)) for name in ("train", "validation", "test")}
    one, other = fold(colours, 2, 5, 0), fold(type(colours)(**{**_fields(colours), **parts}), 2, 5, 0)
    assert isinstance(other.train.images, LazyImages)
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(other, name).images[np.arange(5)], getattr(one, name).images[:5])
        np.testing.assert_array_equal(getattr(other, name).labels, getattr(one, name).labels)
    pickle.dumps(LazyImages(other.train.images.decode, np.arange(1), (12, 12, 3)))


def _fields(data):
    return {name: getattr(data, name) for name in data.__dataclass_fields__}
