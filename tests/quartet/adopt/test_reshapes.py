import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quartet.adopt.graph import open_session
from quartet.adopt.reshapes import free_reshapes


def attention(batch: int, *, in_order: bool = True) -> onnx.ModelProto:
    """Means over areas as in YOLO12: four areas of an image join the axis of the batch, and leave it again."""
    targets = {"areas": [batch * 4, 3, 2], "back": [batch, 4, 2], "flat": [batch, -1]}
    nodes = [
        helper.make_node("Reshape", ["images", "areas"], ["split"]),
        helper.make_node("ReduceMean", ["split"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Reshape", ["mean", "back"], ["joined"]),
        helper.make_node("Reshape", ["joined", "flat"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes if in_order else nodes[::-1],
        "attention",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 12, 2])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 8])],
        [numpy_helper.from_array(np.array(target, np.int64), name) for name, target in targets.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("in_order", [True, False])
def test_a_graph_for_a_fixed_batch_takes_any(batch: int, in_order: bool):
    fixed = attention(batch, in_order=in_order)
    freed = free_reshapes(fixed)
    assert fixed == attention(batch, in_order=in_order)
    for value in (*freed.graph.input, *freed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    images = np.random.default_rng(0).random((8, 12, 2), dtype=np.float32)
    session = open_session(fixed, "fixed.onnx")
    want = np.concatenate([session.run({"images": part})[0] for part in np.split(images, 8 // batch)])
    (got,) = open_session(freed, "freed.onnx").run({"images": images})
    np.testing.assert_allclose(got, want)


def test_a_target_that_the_graph_computes_stays():
    model = attention(1)
    model.graph.node.insert(0, helper.make_node("Identity", ["areas"], ["computed"]))
    model.graph.node[1].input[1] = "computed"
    assert free_reshapes(model).graph.node[1].input[1] == "computed"
