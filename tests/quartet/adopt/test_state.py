import numpy as np
import pytest
from onnx import helper

from quartet.adopt.graph import CannotAdopt
from quartet.adopt.state import find_state, refuse_state
from tests.quartet.adopt.graphs import linear, make


def between(before: str, after: str, sizes=(1, 8), dtype: str = "float32"):
    """A graph whose input and output have these names, and the same shape."""
    return make(
        [helper.make_node("Cast", [before], [after], to=1)],
        {before: (dtype, [sizes[0], 4])},
        {after: ("float32", [sizes[1] if sizes[1] != 8 else sizes[0], 4])},
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("state", "stateN"), ("h", "hn"), ("c0", "c0_out"), ("past_key_values.0.key", "present.0.key"),
        ("cache_in", "cache_out"), ("hidden_state", "next_hidden_state"), ("past", "present"),
        ("initial_h", "final_h"),
    ],
)  # fmt: skip
def test_an_output_that_is_the_next_value_of_an_input_is_found(before: str, after: str):
    model = between(before, after)
    assert find_state(model) == [(before, after)]
    with pytest.raises(CannotAdopt, match=f"{before} → {after}.*--explicit-state"):
        refuse_state(model)


@pytest.mark.parametrize(
    ("before", "after"), [("image", "image_out"), ("x", "y"), ("input", "output"), ("states", "capitals"), ("h", "c")]
)
def test_other_inputs_and_outputs_are_no_state(before: str, after: str):
    assert find_state(between(before, after)) == []


def test_a_state_of_another_dtype_or_shape_cannot_be_sent_back():
    assert find_state(between("state", "stateN", dtype="int64")) == []
    assert find_state(between("state", "stateN", sizes=(1, 2))) == []
    refuse_state(linear())


def test_the_state_of_a_recurrent_node_is_found_whatever_it_is_called():
    model = make(
        [helper.make_node("GRU", ["x", "W", "R", "", "", "before"], ["", "after"], hidden_size=3)],
        {"x": ("float32", ["time", 1, 4]), "before": ("float32", [1, 1, 3])},
        {"after": ("float32", [1, 1, 3])},
        weights={"W": np.ones((1, 9, 4), np.float32), "R": np.ones((1, 9, 3), np.float32)},
    )
    assert find_state(model) == [("before", "after")]
