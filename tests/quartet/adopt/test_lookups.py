import numpy as np
from onnx import helper

from quartet.adopt.lookups import lookups
from tests.quartet.adopt.graphs import linear, make


def test_ids_are_bounded_by_the_smallest_table_that_they_are_looked_up_in():
    model = make(
        [
            helper.make_node("Cast", ["ids"], ["long"], to=7),
            helper.make_node("Reshape", ["long", "flat"], ["row"]),
            helper.make_node("Gather", ["words", "row"], ["a"]),
            helper.make_node("Gather", ["kinds", "ids"], ["b"], axis=1),
            helper.make_node("Gather", ["words", "others"], ["c"]),
        ],
        {"ids": ("int32", ["batch", 8]), "others": ("int64", ["batch"]), "free": ("int64", ["batch"])},
        {"a": ("float32", None), "b": ("float32", None), "c": ("float32", None)},
        weights={
            "flat": np.array([-1]),
            "words": np.zeros((100, 4), np.float32),
            "kinds": np.zeros((3, 20), np.float32),
        },
    )
    assert lookups(model) == {"ids": (0, 19), "others": (0, 99)}


def test_a_table_of_unknown_size_bounds_nothing():
    model = make(
        [helper.make_node("Gather", ["x", "ids"], ["y"])],
        {"x": ("float32", ["N", 4]), "ids": ("int64", ["M"])},
        {"y": ("float32", None)},
    )
    assert lookups(model) == {}
    assert lookups(linear()) == {}
