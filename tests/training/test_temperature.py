import numpy as np
import onnx
import pytest

from service.inference.cards import GoldenCard
from service.inference.session import Session
from training.calibrate import logits_of, softmax
from training.classification.graph import ClassifierGraph
from training.export import export
from training.temperature import calibrate, scale_temperature


@pytest.fixture(params=[1.0, 1.7], ids=["the exporter drops it", "the exporter keeps it"])
def graph(request, exported_cnn, colours, tmp_path):
    """A graph that divides by this temperature, and its path."""
    graph = ClassifierGraph(exported_cnn.graph.network, request.param)
    path = tmp_path / "model.onnx"
    card = GoldenCard(rows=4, atol=1e-4)
    export(graph, colours.test.images, path, max_batch=16, card=card, **exported_cnn.names)
    return path


def answers(path, images):
    return Session(path, "cpu").run({"images": images})[0]


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_logits_are_divided_by_the_factor_too(graph, colours, factor):
    before = answers(graph, colours.test.images)
    scale_temperature(graph, 2.0)
    scale_temperature(graph, factor / 2)
    onnx.checker.check_model(str(graph), full_check=True)
    np.testing.assert_allclose(answers(graph, colours.test.images), softmax(logits_of(before) / factor), atol=1e-5)


def test_the_fitted_temperature_is_written_into_the_graph(graph, colours):
    images = colours.train.images
    before = answers(graph, images)
    labels = before.argmax(1)
    labels[::4] = (labels[::4] + 1) % 3  # right three times in four
    factor = calibrate(graph, lambda path: answers(path, images), labels)
    np.testing.assert_allclose(answers(graph, images), softmax(logits_of(before) / factor), atol=1e-5)
    # There is nothing left to be gained.
    assert calibrate(graph, lambda path: answers(path, images), labels) == pytest.approx(1, abs=0.02)


def test_a_graph_without_a_softmax(tmp_path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", values[:1], values[1:])), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match="y comes of a Relu, not of a softmax"):
        scale_temperature(tmp_path / "m.onnx", 2.0)
