from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quartet.adopt.graph import CannotAdopt, RunFailed, Value, inputs_of, load, open_session, outputs_of
from tests.quartet.adopt.graphs import linear, make, save, zipped

ONE = {"x": ("float32", ["batch", 4])}
OUT = {"y": ("float32", ["batch", 4])}


def relu(**options) -> onnx.ModelProto:
    return make([helper.make_node("Relu", ["x"], ["y"])], ONE, OUT, **options)


def test_a_graph_is_described(tmp_path: Path):
    model = linear()
    model.metadata_props.add(key="names", value="cat")
    loaded = load(save(model, tmp_path))
    assert inputs_of(loaded.model) == (Value("x", "float32", ("batch", 4)),)
    assert outputs_of(loaded.model) == (Value("y", "float32", ("batch", 2)),)
    assert (loaded.source.file, loaded.source.producer, dict(loaded.source.opsets)) == (
        "model.onnx",
        "test 1",
        {"": 17},
    )
    assert loaded.source.metadata == {"names": "cat"}
    assert loaded.source.size == (tmp_path / "model.onnx").stat().st_size
    assert loaded.changes == ()


def test_initializers_are_taken_off_the_inputs(tmp_path: Path):
    model = linear()
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 2]))
    loaded = load(save(model, tmp_path))
    assert [value.name for value in inputs_of(loaded.model)] == ["x"]
    assert loaded.changes == ("1 initializer taken off the inputs",)


def test_a_zip_map_becomes_a_tensor_and_its_classes_are_kept(tmp_path: Path):
    loaded = load(save(zipped(), tmp_path))
    assert outputs_of(loaded.model)[1] == Value("probabilities", "float32", ("batch", 2))
    assert loaded.classes == {"probabilities": ("no", "yes")}
    label, probabilities = open_session(loaded.model, "m").run({"x": np.eye(4, dtype=np.float32)})
    assert np.allclose(probabilities.sum(1), 1)
    assert (label == probabilities.argmax(1)).all()


def test_open_axes_get_names_and_a_new_ir_version_is_lowered(tmp_path: Path):
    model = make([helper.make_node("Relu", ["x"], ["y"])], {"x": ("float32", ["?", "", 4])}, OUT)
    model.ir_version = 99
    loaded = load(save(model, tmp_path))
    assert inputs_of(loaded.model)[0].shape == ("x_0", "x_1", 4)
    assert "instead of 99" in loaded.changes[0]


def test_nodes_are_sorted_and_functions_inlined(tmp_path: Path):
    model = linear()
    first, second = (onnx.NodeProto() for _ in range(2))
    first.CopyFrom(model.graph.node[1])
    second.CopyFrom(model.graph.node[0])
    del model.graph.node[:]
    model.graph.node.extend([first, second])
    double = helper.make_function(
        "mine", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    model.graph.node.append(helper.make_node("Double", ["y"], ["twice"], domain="mine"))
    model.graph.output.append(helper.make_tensor_value_info("twice", TensorProto.FLOAT, None))
    model.functions.append(double)
    model.opset_import.append(helper.make_opsetid("mine", 1))
    loaded = load(save(model, tmp_path))
    assert [node.op_type for node in loaded.model.graph.node] == ["MatMul", "Softmax", "Add"]


def test_a_string_normalizer_needs_no_locale_of_the_machine(tmp_path: Path):
    model = make(
        [helper.make_node("StringNormalizer", ["s"], ["t"], case_change_action="LOWER")],
        {"s": ("str", ["batch"])},
        {"t": ("str", ["batch"])},
    )
    loaded = load(save(model, tmp_path))
    assert "C.UTF-8" in loaded.changes[0]
    assert open_session(loaded.model, "m").run({"s": np.array(["ÄB"])})[0].tolist() == ["äb"]


def external(folder: Path) -> Path:
    path = folder / "external.onnx"
    onnx.save(linear(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def sequence() -> onnx.ModelProto:
    model = make([helper.make_node("SplitToSequence", ["x"], ["y"])], ONE, {})
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    model.graph.output.append(helper.make_value_info("y", kind))
    return model


def with_element(element: int) -> onnx.ModelProto:
    model = relu()
    model.graph.input[0].type.tensor_type.elem_type = element
    return model


def cycle() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "b"], ["y"]), helper.make_node("Relu", ["y"], ["b"])]
    return make(nodes, ONE, OUT)


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [
        (make([helper.make_node("Foo", ["x"], ["y"], domain="my.ops")], ONE, OUT, domains={"my.ops": 1}), "operator",
         "the operator Foo of the domain my.ops"),
        (relu(opset=99), "opset", "opset 99"),
        (make([helper.make_node("Add", ["x", "x"], ["y"])], ONE, OUT, opset=6), "operator", "a newer opset"),
        (make([helper.make_node("Relu", ["x"], ["y"])], {"x": ("float32", None)}, OUT), "unknown rank", "'x'"),
        (with_element(TensorProto.BFLOAT16), "dtype", "'x' is bfloat16"),
        (with_element(TensorProto.COMPLEX64), "dtype", "complex64"),
        (with_element(TensorProto.INT4), "dtype", "int4"),
        (with_element(TensorProto.FLOAT8E4M3FN), "dtype", "float8e4m3fn"),
        (sequence(), "sequence type", "'y' is of the type sequence"),
        (make([helper.make_node("Constant", [], ["y"], value_floats=[1.0])], {}, OUT), "no input", "no inputs"),
        (make([helper.make_node("Relu", ["x"], ["y"])], ONE, {}), "no output", "no outputs"),
        (make([helper.make_node("Relu", ["x"], ["x2"])], ONE, {"x": ONE["x"]}), "names", "an input and an output"),
        (cycle(), "invalid graph", "cycle"),
        (make([helper.make_node("MatMul", ["x", "w"], ["y"])], ONE, OUT, weights={"w": np.ones((3, 3), np.float32)}),
         "invalid graph", "Incompatible dimensions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_served_gets_one_clear_sentence(model, reason: str, words: str, tmp_path: Path):
    with pytest.raises(CannotAdopt, match=words) as refused:
        load(save(model, tmp_path))
    assert refused.value.reason == reason
    assert "\n" not in str(refused.value)
    assert "onnxruntime_src" not in str(refused.value)


def test_files_that_are_no_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(CannotAdopt, match="No such file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(CannotAdopt, match="is no file"):
        load(tmp_path)
    text = tmp_path / "text.onnx"
    for content in (b"", b"hello", bytes(range(256)), linear().SerializeToString()[:60]):
        text.write_bytes(content)
        with pytest.raises(CannotAdopt, match="no ONNX file"):
            load(text)
    with pytest.raises(CannotAdopt, match=r"keeps weights in another file \(weights.bin\)"):
        load(external(tmp_path))
    monkeypatch.setattr("quartet.adopt.graph._MOST_BYTES", 10)
    with pytest.raises(CannotAdopt, match="may have 2 GB"):
        load(save(linear(), tmp_path))


def test_a_run_that_fails_says_why_and_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    divide = make(
        [helper.make_node("Div", ["x", "x"], ["y"])], {"x": ("int32", ["batch"])}, {"y": ("int32", ["batch"])}
    )
    with pytest.raises(RunFailed, match=r"^Div node\. Compute Integer division by zero$"):
        open_session(divide, "m").run({"x": np.zeros(1, np.int32)})
    assert capfd.readouterr().err == ""
