import numpy as np

from training.data import absent_classes, halves


def test_halves_divide_every_class_and_are_always_the_same():
    labels = np.repeat([0, 1, 2], (40, 11, 1))
    chosen, rest = halves(labels)
    assert sorted([*chosen, *rest]) == list(range(52))
    assert np.bincount(labels[chosen], minlength=3).tolist() in ([20, 5, 1], [20, 6, 0], [19, 6, 1])
    assert [part.tolist() for part in halves(labels)] == [chosen.tolist(), rest.tolist()]


def test_absent_classes_are_named():
    assert absent_classes(("a", "b", "c"), np.array([0, 2, 2])) == ["b"]
    assert absent_classes(("a",), np.empty(0, np.int64)) == ["a"]
