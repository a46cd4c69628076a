"""TensorFloat-32, emulated: the rounding is right, and what it moves is what the documents say."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from benchmarks.options import newest
from benchmarks.tf32 import replay, round_operands, round_to_tf32
from tests.server import ROOT

# Models whose golden file TensorFloat-32 would have refused, and by which power of ten their answers move.
REFUSED = {"classifier": -3, "classifier-transfer": -3, "encoder": -3}


@given(st.floats(min_value=2.0**-60, max_value=2.0**60, width=32), st.sampled_from([-1, 1]))
def test_rounding_keeps_ten_bits_and_is_to_the_nearest(value: float, sign: int):
    number = np.float32(sign * value)
    rounded = round_to_tf32(number.reshape(1))
    assert rounded.view(np.uint32)[0] & 0x1FFF == 0
    assert abs(float(rounded[0]) - float(number)) <= abs(float(number)) * 2.0**-11


def test_both_operands_of_a_product_are_rounded():
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node("Add", ["c", "a"], ["d"])],
        "product",
        [value("a", TensorProto.FLOAT, [4, 4]), value("b", TensorProto.FLOAT, [4, 4])],
        [value("d", TensorProto.FLOAT, [4, 4])],
    )
    model = round_operands(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    onnx.checker.check_model(model)
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(4, 4)).astype(np.float32) for _ in range(2))
    (d,) = ReferenceEvaluator(model).run(None, {"a": a, "b": b})
    np.testing.assert_allclose(d, round_to_tf32(a) @ round_to_tf32(b) + a, rtol=1e-6)
    assert not np.allclose(d, a @ b + a, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "models").iterdir()))
def test_what_would_move(name: str):
    """docs/explanation/architecture.md says that these would be refused, and that this is why TensorFloat-32 is off."""
    found = replay(newest(ROOT / "models", name))
    assert found.acceptable == (name not in REFUSED)
    if name in REFUSED:
        assert np.floor(np.log10(found.value)) == REFUSED[name]
