import numpy as np
import pytest
from onnx import helper

from quartet.adopt.graph import CannotAdopt, open_session
from quartet.adopt.hazards import guard_divisions, refuse_unbounded_sizes
from tests.quartet.adopt.graphs import make

INTEGERS = {"a": ("int32", ["N"]), "b": ("int32", ["N"])}


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("operator", ["Div", "Mod"])
def test_the_overflow_of_an_integer_division_does_not_end_the_process(operator: str, dtype: str):
    model = make([helper.make_node(operator, ["a", "b"], ["c"])], {name: (dtype, ["N"]) for name in "ab"},
                 {"c": (dtype, ["N"])})  # fmt: skip
    least = np.iinfo(dtype).min
    others = np.array([least, 7, -7, 9], dtype), np.array([3, 2, 2, 4], dtype)
    (want,) = open_session(model, "m").run(dict(zip("ab", others, strict=True)))
    assert guard_divisions(model) != []
    session = open_session(model, "m")
    (got,) = session.run(dict(zip("ab", others, strict=True)))
    assert (got == want).all()
    (got,) = session.run({"a": np.array([least, 7], dtype), "b": np.array([-1, -1], dtype)})
    assert got.tolist() == ([least, -7] if operator == "Div" else [0, 0])


def test_divisions_inside_of_bodies_and_by_constants_are_guarded():
    body = helper.make_graph(
        [helper.make_node("Div", ["a", "minus"], ["in"])], "body", [], [helper.make_tensor_value_info("in", 6, ["N"])]
    )
    model = make(
        [helper.make_node("If", ["yes"], ["c"], then_branch=body, else_branch=body)],
        INTEGERS | {"yes": ("bool", [])},
        {"c": ("int32", ["N"])},
        weights={"minus": np.array(-1, np.int32)},
    )
    assert guard_divisions(model) == [
        "2 integer divisions by -1 negate instead, since an overflow would end the process"
    ]
    inputs = {"a": np.array([-(2**31)], np.int32), "b": np.zeros(1, np.int32), "yes": np.array(True)}
    assert open_session(model, "m").run(inputs)[0].tolist() == [-(2**31)]


def test_what_cannot_overflow_stays_as_it_is():
    for divisor in (np.array(2, np.int32), np.array([1, 4], np.int32)):
        model = make(
            [helper.make_node("Div", ["a", "by"], ["c"])],
            {"a": ("int32", ["N", 1])},
            {"c": ("int32", ["N", None])},
            weights={"by": divisor},
        )
        assert guard_divisions(model) == []
    floats = make([helper.make_node("Div", ["a", "b"], ["c"])], {name: ("float32", ["N"]) for name in "ab"},
                  {"c": ("float32", ["N"])})  # fmt: skip
    assert guard_divisions(floats) == []


def test_an_old_opset_without_a_guard_is_refused():
    model = make([helper.make_node("Div", ["a", "b"], ["c"])], INTEGERS, {"c": ("int32", ["N"])}, opset=7)
    with pytest.raises(CannotAdopt, match="newer opset"):
        guard_divisions(model)


def test_values_that_decide_sizes_need_a_range():
    model = make(
        [helper.make_node("Cast", ["n"], ["to"], to=7), helper.make_node("Expand", ["x", "to"], ["y"])],
        {"x": ("float32", ["N", 1]), "n": ("float32", [2])},
        {"y": ("float32", [None, None])},
    )
    with pytest.raises(CannotAdopt, match=r"'n' decide .* \(Expand\).*--range n=LOW:HIGH"):
        refuse_unbounded_sizes(model, {})
    refuse_unbounded_sizes(model, {"n": (1, 8)})


def test_sizes_that_shapes_decide_need_none():
    model = make(
        [helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Expand", ["one", "shape"], ["y"])],
        {"x": ("float32", ["N", 4])},
        {"y": ("float32", ["N", 4])},
        weights={"one": np.ones(1, np.float32)},
    )
    refuse_unbounded_sizes(model, {})


def test_the_length_of_a_loop_that_clients_decide_needs_a_range():
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["on"])],
        "body",
        [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("going", 9, [])],
        [helper.make_tensor_value_info("on", 9, [])],
    )
    model = make(
        [helper.make_node("Loop", ["times", ""], [], body=body), helper.make_node("Relu", ["x"], ["y"])],
        {"x": ("float32", ["N"]), "times": ("int64", [])},
        {"y": ("float32", ["N"])},
    )
    with pytest.raises(CannotAdopt, match=r"'times' decide .*\(Loop\)"):
        refuse_unbounded_sizes(model, {})
