import numpy as np
import onnx
import pytest
from onnx import helper

from quartet.adopt.batching import decide
from quartet.adopt.graph import CannotAdopt, inputs_of, open_session
from quartet.adopt.samples import Samples, draw
from service.inference.cards import ListCard
from tests.quartet.adopt.graphs import linear, make

WEIGHTS = {"w": np.arange(16, dtype=np.float32).reshape(4, 4) / 16}


def samples_of(model: onnx.ModelProto) -> Samples:
    return draw(inputs_of(model), {}, open_session(model, "m").run, 64)


def graph(*nodes: onnx.NodeProto, first: int | str = "N", last: int | str = 4) -> onnx.ModelProto:
    shape = [first, last]
    return make(nodes, {"x": ("float32", shape)}, {"y": ("float32", ["M", last])}, weights=WEIGHTS)


def test_rows_that_agree_are_batched():
    batching = decide(linear(), samples_of(linear()), 64)
    assert (batching.batched, batching.most) == (True, 64)
    assert "1, 2, 3, 7, 64" in batching.why


def test_a_fixed_first_axis_is_opened_if_the_answers_agree():
    model = linear(3)
    batching = decide(model, samples_of(model), 8)
    assert batching.batched
    assert "fixes the first axis at 3" in batching.why
    assert inputs_of(batching.model)[0].shape == ("batch", 4)
    assert open_session(batching.model, "m").run({"x": np.ones((5, 4), np.float32)})[0].shape == (5, 2)


def test_a_reshape_with_the_batch_in_its_target_is_opened():
    model = make(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        {"x": ("float32", [1, 4])},
        {"y": ("float32", [1, 2, 2])},
        weights={"to": np.array([1, 2, 2])},
    )
    batching = decide(model, samples_of(model), 8)
    assert batching.batched
    assert "Reshape" in batching.why


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("CumSum", ["x", "axis"], ["y"]), "in a batch of 2, output y differs"),  # time
        (helper.make_node("Softmax", ["x"], ["y"], axis=0), "cannot be told apart|differs"),
        (helper.make_node("Sub", ["x", "mean"], ["y"]), "differs|cannot be told apart"),
        (helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0]), "not that of the rows"),
        (helper.make_node("ReduceSum", ["x", "axes"], ["y"]), "in a batch of 2"),
        (helper.make_node("Sub", ["x", "x"], ["y"]), "the same for all samples"),
        (helper.make_node("Compress", ["x", "yes"], ["y"], axis=0), "in a batch of 3"),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else "",
)
def test_a_first_axis_that_is_no_batch_is_found_out(node: onnx.NodeProto, words: str):
    model = graph(helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]), node)
    for name, array in (("axis", np.array(0)), ("axes", np.array([0])), ("yes", np.array([True, True]))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    batching = decide(model, samples_of(model), 8)
    assert not batching.batched
    assert batching.most == 1
    assert batching.model is model
    assert batching.why.startswith("no: ")
    assert any(word in batching.why for word in words.split("|")), batching.why


def test_a_recurrent_network_whose_first_axis_is_time_is_not_batched():
    random = np.random.default_rng(0)
    model = make(
        [helper.make_node("GRU", ["x", "W", "R"], ["y", ""], hidden_size=3)],
        {"x": ("float32", ["batch", 1, 4])},  # the name is wrong
        {"y": ("float32", ["batch", 1, 1, 3])},
        weights={"W": random.random((1, 9, 4), np.float32), "R": random.random((1, 9, 3), np.float32)},
    )
    batching = decide(model, samples_of(model), 8)
    assert not batching.batched
    assert "in a batch of 2, output y differs" in batching.why


def test_a_scale_over_the_whole_batch_is_found_out():
    model = graph(
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    )
    assert not decide(model, samples_of(model), 8).batched


def test_inputs_that_cannot_share_a_first_axis():
    add = [helper.make_node("Add", ["a", "b"], ["y"])]
    for shape, words in (([], "b is a scalar"), ([1, 4], "different sizes")):
        model = make(add, {"a": ("float32", ["N", 4]), "b": ("float32", shape)}, {"y": ("float32", ["N", 4])})
        assert words in decide(model, samples_of(model), 8).why


def test_no_batch_exceeds_the_largest_and_the_reason_says_up_to_which_size_rows_agree():
    # Right up to four rows, and zeros beyond.
    model = make(
        [helper.make_node("Slice", ["x", "zero", "four", "zero"], ["some"]),
         helper.make_node("Shape", ["x"], ["shape"]),
         helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
         helper.make_node("Concat", ["some", "zeros"], ["long"], axis=0),
         helper.make_node("Gather", ["shape", "zero"], ["count"]),
         helper.make_node("Slice", ["long", "zero", "count", "zero"], ["y"])],
        {"x": ("float32", ["N", 4])},
        {"y": ("float32", ["N", 4])},
        weights={"zero": np.array([0]), "four": np.array([4])},
    )  # fmt: skip
    samples = samples_of(model)
    refused = decide(model, samples, 8)
    assert not refused.batched
    assert "up to 3 rows agree: --max-batch 3" in refused.why
    assert decide(model, samples, 4).most == 4


def test_rows_that_must_be_items_run_one_at_a_time():
    model = graph(helper.make_node("Softmax", ["x"], ["y"], axis=0), first=1)
    batching = decide(model, samples_of(model), 8, rows=True)
    assert (batching.batched, batching.most) == (True, 1)
    assert "one item at a time" in batching.why
    outputs = open_session(batching.model, "m").outputs
    assert not isinstance(outputs[0][2][0], int)
    broken = graph(helper.make_node("MatMul", ["w", "x"], ["y"]), first=4)
    with pytest.raises(CannotAdopt, match="single item"):
        decide(broken, samples_of(broken), 8, rows=True)


def test_an_output_with_a_fixed_batch_inside_is_open_for_the_runtime():
    nodes = [helper.make_node("Reshape", ["x", "to"], ["z"]), helper.make_node("Expand", ["z", "shape"], ["y"])]
    model = make(
        nodes,
        {"x": ("float32", [1, 4])},
        {"y": ("float32", [1, 2, 2])},
        weights={"to": np.array([1, 2, 2]), "shape": np.array([1, 2, 2])},
    )
    model.graph.node[0].input[1] = "shape"
    model.graph.node.append(helper.make_node("Gather", ["y", "first"], ["z2"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "first"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("z2", 1, [1, 2, 2]))
    batching = decide(model, samples_of(model), 8, rows=True)
    assert batching.most == 1
    session = open_session(batching.model, "m")
    assert not isinstance(session.outputs[0][2][0], int)
    assert session.run({"x": np.ones((1, 4), np.float32)})[0].shape == (1, 2, 2)


def test_lists_may_swap_entries_of_nearly_the_same_rank():
    model = make(
        [helper.make_node("Identity", ["x"], ["scores"])],
        {"x": ("float32", ["N", 2])},
        {"scores": ("float32", ["N", 2])},
    )
    lists = ListCard(order="scores", above=0.0, tolerances={"scores": 1e-3})
    assert decide(model, samples_of(model), 8, lists=lists).batched
