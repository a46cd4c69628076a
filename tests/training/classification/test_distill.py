import dataclasses

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper

from service.inference.session import Session
from tests.tiny import LABELS, SIZE, answer, write_model
from training.classification.distill import Guided, distillation_loss, feature_loss, soften, teach
from training.data.images import ImageData, ImageSplit
from training.engine.weights import inner_weights


@pytest.fixture
def data():
    """Asymmetric images, whose mirror images get different predictions."""
    random = np.random.default_rng(3)
    split = ImageSplit(random.integers(0, 256, (37, SIZE, SIZE, 3), dtype=np.uint8), np.arange(37) % 3)
    return ImageData("colours", LABELS, split, split, split, "sha256:1")


def test_teacher_predicts_every_image_and_its_mirror_image(data, console, tmp_path, monkeypatch):
    version, seen = write_model(tmp_path / "models"), []
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda self, inputs: seen.append(inputs["images"]) or run(self, inputs))
    answers = teach(version, data, tmp_path / "run", console).probabilities
    assert answers.shape == (2, 37, 3)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers[0], answer(data.train.images), atol=1e-6)
    # Batches no larger than the manifest's 16, each followed by its mirror image.
    assert [len(images) for images in seen] == [16, 16, 16, 16, 5, 5]
    for plain, mirrored in zip(seen[::2], seen[1::2], strict=True):
        np.testing.assert_array_equal(plain[:, :, ::-1], mirrored)


def test_predictions_are_cached_until_the_data_changes(data, console, tmp_path, monkeypatch):
    version = write_model(tmp_path / "models")
    first = teach(version, data, tmp_path / "run", console).probabilities
    with monkeypatch.context() as patch:
        patch.setattr(Session, "run", lambda *_: pytest.fail("asked again"))
        np.testing.assert_array_equal(teach(version, data, tmp_path / "run", console).probabilities, first)
    other = dataclasses.replace(
        data, train=ImageSplit(data.train.images[::-1], data.train.labels[::-1]), fingerprint="sha256:2"
    )
    again = teach(version, other, tmp_path / "run", console).probabilities
    np.testing.assert_allclose(again, first[:, ::-1], atol=1e-6)


def test_a_damaged_cache_is_made_again_and_that_is_said(data, console, tmp_path):
    version = write_model(tmp_path / "models")
    first = teach(version, data, tmp_path / "run", console).probabilities
    (cache,) = (tmp_path / "run").iterdir()
    whole = cache.read_bytes()
    for damaged in (whole[: len(whole) // 2], b""):
        cache.write_bytes(damaged)
        np.testing.assert_array_equal(teach(version, data, tmp_path / "run", console).probabilities, first)
        assert f"{cache} is damaged: the teacher is asked again." in console.file.getvalue().replace("\n", "")
        console.file.truncate(0)
        assert cache.read_bytes() == whole


def test_an_interrupted_write_leaves_no_cache(data, console, tmp_path, monkeypatch):
    def interrupt(file, *arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    version = write_model(tmp_path / "models")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", interrupt)
        with pytest.raises(KeyboardInterrupt):
            teach(version, data, tmp_path / "run", console)
    assert not any((tmp_path / "run").iterdir())


@pytest.mark.parametrize("change", [{"classes": ("a", "b", "c")}, {"classes": LABELS[:2]}])
def test_a_teacher_of_other_classes_is_refused(data, console, tmp_path, change):
    version = write_model(tmp_path / "models")
    with pytest.raises(ValueError, match="was made for 3 classes"):
        teach(version, dataclasses.replace(data, **change), tmp_path / "run", console)


def test_a_teacher_of_another_image_size_is_refused(data, console, tmp_path):
    version = write_model(tmp_path / "models")
    small = ImageSplit(data.train.images[:, :4], data.train.labels)
    with pytest.raises(ValueError, match=r"images of \(8, 8, 3\).*images of \(4, 8, 3\)"):
        teach(version, dataclasses.replace(data, train=small), tmp_path / "run", console)


def with_a_layer(folder):
    """Gives the tiny model, which scales the mean colours, a layer that multiplies them by a matrix instead."""
    model = onnx.load(folder / "model.onnx")
    scale = numpy_helper.to_array(model.graph.initializer[1])
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(scale * np.eye(3, dtype=np.float32), "scale"))
    model.graph.node[2].op_type = "MatMul"
    onnx.save(model, folder / "model.onnx")


def test_features_are_those_of_the_last_layer_less_their_mean(data, console, tmp_path):
    version = write_model(tmp_path / "models", change=with_a_layer)
    plain = teach(version, data, tmp_path / "run", console)
    assert plain.features is None
    teaching = teach(version, data, tmp_path / "run", console, features=True)
    np.testing.assert_array_equal(teaching.probabilities, plain.probabilities)
    # An image and its mirror image have the same mean colours; half precision rounds them to an eighth.
    colours = data.train.images.mean((1, 2), dtype=np.float64)
    assert teaching.features.shape == (2, 37, 3)
    assert teaching.features.dtype == np.float16
    for view in teaching.features:
        np.testing.assert_allclose(view, colours - colours.mean(0), rtol=0, atol=0.15)


def test_a_guided_network_maps_its_features_in_training_alone(tiny_cnn):
    torch.manual_seed(0)
    network, pixels = tiny_cnn(), torch.rand(4, 3, 12, 12)
    guided = Guided(network, 5)
    logits, mapped = guided.train()(pixels)
    assert logits.shape == (4, 3)
    torch.testing.assert_close(mapped, guided.map(network.features(pixels)))
    torch.testing.assert_close(guided.eval()(pixels), network.eval()(pixels))
    inner = inner_weights(guided.state_dict())
    assert inner.keys() == network.state_dict().keys()
    assert inner_weights(inner) == inner


def test_features_are_compared_by_their_direction():
    features = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    torch.testing.assert_close(feature_loss(7 * features, features), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(feature_loss(-features, features), torch.tensor(2.0))
    turned = torch.stack((-features[:, 1], features[:, 0]), 1)
    torch.testing.assert_close(feature_loss(turned, features), torch.tensor(1.0))


def test_softening_divides_the_logits():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
    torch.testing.assert_close(soften(logits.softmax(1), 2.0), (logits / 2).softmax(1))
    certain = soften(torch.tensor([[1.0, 0.0]]), 4.0)
    assert torch.isfinite(certain).all()
    assert certain[0, 0] < 1


def test_loss_without_a_teacher_is_the_usual_one():
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    loss = distillation_loss(logits, F.one_hot(labels, 4).float(), None, label_smoothing=0.1, weight=0.7, temperature=2)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.1))


def test_loss_with_a_teacher_is_least_where_the_softened_answers_agree():
    teacher = torch.tensor([[3.0, 1.0, -2.0]])
    softened = soften(teacher.softmax(1), 2.0)
    logits = teacher.clone().requires_grad_()
    truth = F.one_hot(torch.tensor([1]), 3).float()
    loss = distillation_loss(logits, truth, softened, label_smoothing=0.0, weight=1.0, temperature=2.0)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 3), atol=1e-6, rtol=0)


def test_weight_shares_the_loss_between_label_and_teacher():
    logits, truth = torch.randn(5, 3), F.one_hot(torch.tensor([0, 1, 2, 1, 0]), 3).float()
    softened = torch.softmax(torch.randn(5, 3), 1)
    hard, soft, mixed = (
        distillation_loss(logits, truth, softened, label_smoothing=0.0, weight=weight, temperature=3.0)
        for weight in (0.0, 1.0, 0.25)
    )
    torch.testing.assert_close(mixed, 0.75 * hard + 0.25 * soft)
