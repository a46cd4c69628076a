import numpy as np
import onnx
import pytest

from service.inference.cards import GoldenCard
from service.inference.session import Session
from training.classification.network import ClassifierGraph
from training.export.calibration import PREFIX, Scaling, logits_alone, logits_of, write_scaling
from training.export.graph import export, torch_outputs
from training.export.scaling import ScalingLayer


@pytest.fixture
def exported(exported_cnn, colours, tmp_path):
    """Exports a graph with a scaling; gives it and its path."""

    def export_with(scaling, flip=False):
        graph = ClassifierGraph(exported_cnn.graph.network, scaling, flip)
        path = tmp_path / "model.onnx"
        card = GoldenCard(rows=4, atol=1e-4)
        export(graph, colours.test.images, path, max_batch=16, card=card, **exported_cnn.names)
        return graph, path

    return export_with


def answers(path, images):
    return Session(path, "cpu").run({"images": images})[0]


def marked(path):
    return [node.op_type for node in onnx.load(path).graph.node if node.name.startswith(PREFIX)]


@pytest.mark.parametrize("flip", [False, True], ids=["", "fliped"])
@pytest.mark.parametrize("exponent", [1.0, 1.4])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_a_graph_scales_as_pytorch_does_in_place_of_what_it_did(exported, temperature, exponent, flip, colours):
    graph, path = exported(Scaling(temperature, exponent), flip)
    images = colours.test.images
    before = answers(path, images)
    with logits_alone(path) as bare:
        logits = answers(bare, images)
    np.testing.assert_allclose(graph.scaling.fitted.probabilities(logits), before, atol=1e-5)
    for scaling, nodes in (
        (Scaling(0.7, 1.9), ["LogSoftmax", "Abs", "Div", "Pow", "Neg"]),
        (Scaling(2.5), ["Div"]),
        (Scaling(0.4, 0.8), ["LogSoftmax", "Abs", "Div", "Pow", "Neg"]),
    ):
        write_scaling(path, scaling)
        graph.scaling = ScalingLayer(scaling)
        want = torch_outputs(graph, images, ("probabilities",))["probabilities"]
        np.testing.assert_allclose(answers(path, images), want, atol=1e-5)
        assert marked(path) == nodes
        with logits_alone(path) as bare:
            np.testing.assert_allclose(answers(bare, images), logits, atol=1e-5)


def test_the_logits_are_those_of_the_probabilities_up_to_a_constant(exported, colours):
    _, path = exported(Scaling(1.7))
    with logits_alone(path) as bare:
        logits = answers(bare, colours.test.images)
    again = logits_of(answers(path, colours.test.images)) * 1.7
    np.testing.assert_allclose(logits - logits.max(1, keepdims=True), again - again.max(1, keepdims=True), atol=1e-4)


def test_a_graph_without_a_softmax(tmp_path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:])), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="y is the output of a Relu, not of a softmax"):
        write_scaling(tmp_path / "m.onnx", Scaling(2.0))
