import numpy as np

from service.inference.stacking import run_batch, run_ragged


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
