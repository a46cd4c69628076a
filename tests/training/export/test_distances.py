import numpy as np
import onnx
import pytest

from service.inference.cards import GoldenCard
from service.inference.session import Session
from training.classification.network import ClassifierGraph
from training.export.calibration import Scaling
from training.export.distances import (
    PREFIX,
    Distance,
    Method,
    append,
    cross_fitted,
    measure,
    p_values,
    without_ood,
    write_features,
)
from training.export.evaluator import run_in_batches
from training.export.graph import export
from training.export.layers import first_inputs, middle_map, penultimate
from training.export.quantize import write_float16, write_int8

MEANS = Method("", ((Distance.to_class_means, penultimate),))
GAUSSIAN = Method("", ((Distance.mahalanobis, middle_map),))
BOTH = Method("", (*GAUSSIAN.distances, *MEANS.distances))


def features_of(path, layers, images, folder):
    write_features(path, layers, folder / "features.onnx")
    return run_in_batches(folder / "features.onnx", "images", images)


def fit_to(path, method, split, folder):
    layers = method.layers(onnx.load(path))
    return method.fit(layers, features_of(path, layers, split.images, folder), split.labels), layers


def test_the_last_features_are_what_the_last_layer_multiplies(exported_cnn, colours, tmp_path):
    model = onnx.load(exported_cnn.path)
    (features,) = features_of(exported_cnn.path, [penultimate(model)], colours.test.images, tmp_path)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    logits = (features @ weights["network.head.weight"].T + weights["network.head.bias"]) / 1.7
    powers = np.exp(logits - logits.max(1, keepdims=True))
    (probabilities,) = run_in_batches(exported_cnn.path, "images", colours.test.images)
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), probabilities, atol=1e-5)
    del model.graph.node[:-1]
    with pytest.raises(ValueError, match="no layer leads to probabilities"):
        penultimate(model)


def test_layers_by_their_depth(exported_cnn):
    model = onnx.load(exported_cnn.path)
    order = [output for node in model.graph.node for output in node.output]
    first, middle, last = (order.index(find(model)[0]) for find in (first_inputs, middle_map, penultimate))
    assert first < middle < last
    (name,) = middle_map(model)
    assert model.graph.node[middle].op_type == "Add"
    # Where nothing is added, the maps that layers are given count; where there are no maps, the last features.
    for node in model.graph.node:
        node.op_type = "Sub" if node.op_type == "Add" else node.op_type
    assert middle_map(model) not in {(name,), penultimate(model)}


@pytest.mark.parametrize("method", [MEANS, GAUSSIAN, BOTH])
def test_p_values_are_shares_of_the_held_out_items(exported_cnn, colours, tmp_path, method):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported_cnn.path.read_bytes())
    distances, layers = fit_to(path, method, colours.train, tmp_path)
    held_out, test = (
        measure(distances, features_of(path, layers, split.images, tmp_path))
        for split in (colours.validation, colours.test)
    )
    append(path, distances, held_out)
    probabilities, told = run_in_batches(path, "images", colours.test.images)
    expected = p_values(test, held_out)
    np.testing.assert_allclose(expected, (1 + (held_out[None] >= test[:, None]).sum(1)) / (len(held_out) + 1))
    # An item that is as far as a held-out one, but for rounding, may count on either side.
    np.testing.assert_allclose(told, expected, atol=1.5 / (len(held_out) + 1))
    assert told.dtype == np.float32
    np.testing.assert_array_equal(probabilities, run_in_batches(exported_cnn.path, "images", colours.test.images)[0])
    noise = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), dtype=np.uint8)
    assert np.median(run_in_batches(path, "images", noise)[1]) < np.median(told)


def test_distances():
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(400, 3)).astype(np.float32), np.repeat((0, 1), 200)
    features[:, 1] *= 5
    gaussian = Distance.mahalanobis(("x",), features, labels)
    # A deviation along each axis is as far, whatever the axis' scale.
    near, far = gaussian.measure(features.mean(0) + np.diag([1, 5, 1]).astype(np.float32)), gaussian.scaled(4)
    np.testing.assert_allclose(near, 1, atol=0.3)
    np.testing.assert_allclose(far.measure(features), 4 * gaussian.measure(features), rtol=1e-4)
    features[labels == 1] += np.array([0, 0, 30], np.float32)
    means = Distance.to_class_means(("x",), features, labels)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    centres = np.stack([unit[labels == label].mean(0) for label in (0, 1)])
    expected = np.square(unit[:, None] - centres).sum(2).min(1) - 1
    np.testing.assert_allclose(means.scaled(2).measure(features), 2 * expected, atol=1e-5)


def test_a_graph_that_looks_at_mirror_images_too(exported_cnn, colours, tmp_path):
    path = tmp_path / "mirrored.onnx"
    graph = ClassifierGraph(exported_cnn.graph.network, Scaling(), flip=True)
    card = GoldenCard(rows=4, atol=1e-4)
    export(graph, colours.test.images, path, max_batch=16, card=card, **exported_cnn.names)
    layers = BOTH.layers(onnx.load(path))
    features, plain = (
        features_of(graph, BOTH.layers(onnx.load(graph)), colours.test.images, tmp_path)
        for graph in (path, exported_cnn.path)
    )
    for one, other in zip(features, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    distances = BOTH.fit(layers, features, colours.test.labels)
    append(path, distances, measure(distances, features))
    assert run_in_batches(path, "images", colours.test.images)[1].shape == (30,)


def test_everything_else_in_the_graph_keeps_its_place(exported_cnn, colours, tmp_path):
    path = tmp_path / "model.onnx"
    before = onnx.load(exported_cnn.path)
    path.write_bytes(exported_cnn.path.read_bytes())
    for _ in range(2):  # a second time in place of the first
        distances, layers = fit_to(path, BOTH, colours.train, tmp_path)
        append(path, distances, measure(distances, features_of(path, layers, colours.train.images, tmp_path)))
        after = onnx.load(path)
        assert [output.name for output in after.graph.output] == ["probabilities", "unfamiliar"]
        count = len(before.graph.initializer)
        assert list(after.graph.initializer[:count]) == list(before.graph.initializer)
        assert all(tensor.name.startswith(PREFIX) for tensor in after.graph.initializer[count:])
        assert all(node.name.startswith(PREFIX) for node in after.graph.node[len(before.graph.node) :])
        assert without_ood(after).SerializeToString() == before.SerializeToString()


def test_graphs_in_8_and_16_bits_tell_by_their_own_features(exported_cnn, colours, tmp_path):
    write_int8(exported_cnn.path, tmp_path / "int8.onnx", [{"images": colours.train.images[:32]}])
    write_float16(exported_cnn.path, tmp_path / "float16.onnx")
    for name in ("int8.onnx", "float16.onnx"):
        distances, layers = fit_to(tmp_path / name, BOTH, colours.train, tmp_path)
        features = features_of(tmp_path / name, layers, colours.train.images, tmp_path)
        assert {array.dtype for array in features} == {np.dtype(np.float32)}
        held_out, test = (
            measure(distances, features_of(tmp_path / name, layers, split.images, tmp_path))
            for split in (colours.validation, colours.test)
        )
        append(tmp_path / name, distances, held_out)
        session = Session(tmp_path / name, "cpu")
        told = session.run({"images": colours.test.images})[session.outputs.index("unfamiliar")]
        np.testing.assert_allclose(told, p_values(test, held_out), atol=1.5 / (len(held_out) + 1))
        # The features of the float graph would tell something else.
        layers = BOTH.layers(onnx.load(exported_cnn.path))
        others = measure(distances, features_of(exported_cnn.path, layers, colours.test.images, tmp_path))
        assert (others != test).any()


@pytest.mark.parametrize("count", [43, 163])
def test_new_items_are_below_a_level_as_often_as_it_says_on_average_over_calibration_sets(count):
    random = np.random.default_rng(0)
    told = np.concatenate([p_values(random.normal(size=1), random.normal(size=count)) for _ in range(4000)])
    assert told.min() == pytest.approx(1 / (count + 1))
    for level in (0.01, 0.05, 0.1):
        exact = np.floor(level * (count + 1)) / (count + 1)
        assert (told <= level).mean() == pytest.approx(exact, abs=4 * np.sqrt(max(exact, 1e-9) * (1 - exact) / 4000))


def test_cross_fitted_p_values_are_fair_even_where_new_items_lie_elsewhere():
    random = np.random.default_rng(0)
    held_out, elsewhere = random.normal(size=500), random.normal(1, size=500)
    assert (cross_fitted(held_out) <= 0.1).mean() == pytest.approx(0.1, abs=0.01)
    assert (p_values(elsewhere, held_out) <= 0.1).mean() > 0.2
    assert cross_fitted(held_out[:1]).tolist() == [1.0]
