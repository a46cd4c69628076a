from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from service.inference.rows import Rows
from service.inference.stacking import run_alike, run_batch, run_each, run_ragged


def test_items_of_one_shape_are_stacked_and_split_again():
    def run(inputs):
        return [inputs["a"] * 2, inputs["a"].sum(1)]

    rows = run_batch(run, ("a",), [np.array([1, 2]), np.array([3, 4])])
    assert [(one.tolist(), other) for one, other in rows] == [([2, 4], 3), ([6, 8], 7)]


def test_several_inputs_are_stacked_each_for_itself():
    rows = run_batch(lambda inputs: [inputs["a"] + inputs["b"]], ("a", "b"), [(np.array([1]), np.array([10]))] * 2)
    assert [row[0].tolist() for row in rows] == [[11], [11]]


def test_items_of_different_lengths_keep_their_order_and_short_ones_are_not_made_long():
    shapes = []

    def run(inputs):
        shapes.append(inputs["ids"].shape)
        return [inputs["ids"].sum(1), (inputs["ids"] != 0).sum(1)]

    random = np.random.default_rng(0)
    items = [random.integers(1, 9, length) for length in (400, 3, 20, 5, 380, 1, 22, 90)]
    rows = run_ragged(run, ("ids",), items)
    assert [(int(total), int(count)) for total, count in rows] == [(item.sum(), len(item)) for item in items]
    assert sum(batch for batch, _ in shapes) == len(items)
    assert sum(batch * length for batch, length in shapes) < 1.3 * sum(map(len, items))
    assert len(shapes) <= 4


def test_a_lone_item_is_not_padded():
    rows = run_ragged(lambda inputs: [inputs["ids"]], ("ids",), [np.arange(7)])
    np.testing.assert_array_equal(rows[0][0], np.arange(7))


def test_items_of_the_same_shapes_run_together_and_are_not_padded():
    shapes = []

    def run(inputs):
        shapes.append(inputs["a"].shape)
        return [inputs["a"].sum((1, 2))]

    items = [np.ones(shape) for shape in ((2, 3), (3, 2), (2, 3), (1, 1))]
    assert [float(row[0]) for row in run_alike(run, ("a",), items)] == [6, 6, 6, 1]
    assert shapes == [(2, 2, 3), (1, 3, 2), (1, 1, 1)]


def test_without_a_batch_axis_each_item_runs_by_itself():
    def run(inputs):
        assert isinstance(inputs["b"], np.ndarray)
        return [inputs["a"] * inputs["b"]]

    rows = run_each(run, ("a", "b"), [(np.array([1.0, 2.0]), np.float32(3)), (np.array([1.0]), np.float32(2))])
    assert [row[0].tolist() for row in rows] == [[3, 6], [2]]


@pytest.mark.parametrize("stack", [run_batch, run_alike, partial(run_ragged, lengths=(8,))])
def test_rows_are_not_copied(stack: Callable[..., Any]):
    array = np.arange(12).reshape(4, 3)
    seen = []

    def run(inputs):
        seen.append(inputs["a"])
        return [inputs["a"].sum(1)]

    rows = stack(run, ("a",), Rows((array,))[1:3])
    assert [int(row[0]) for row in rows] == [12, 21]
    assert np.shares_memory(seen[0], array)


def test_rows_that_are_not_aligned_are_copied():
    array = np.frombuffer(memoryview(b"?" + np.arange(4, dtype=np.float32).tobytes())[1:], np.float32).reshape(2, 2)
    seen = []

    def run(inputs):
        seen.extend(inputs.values())
        return [inputs["a"] + inputs["b"]]

    rows = run_batch(run, ("a", "b"), Rows((array, np.ones((2, 2), np.float32))))
    assert [row[0].tolist() for row in rows] == [[1, 2], [3, 4]]
    assert all(each.flags.aligned for each in seen)


def test_rows_are_a_sequence():
    one, two = Rows((np.arange(3),)), Rows((np.arange(3), np.arange(3) * 2))
    assert (len(one), list(one), one[2], list(one[1:])) == (3, [0, 1, 2], 2, [1, 2])
    assert (list(two), two[1]) == ([(0, 0), (1, 2), (2, 4)], (1, 2))
