import numpy as np

from training.data.dataset import absent_classes


def test_absent_classes_are_named():
    assert absent_classes(("a", "b", "c"), np.array([0, 2, 2])) == ["b"]
    assert absent_classes(("a",), np.empty(0, np.int64)) == ["a"]
