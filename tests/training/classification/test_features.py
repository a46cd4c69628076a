import numpy as np
import pytest
import torch

from training.backbones.registry import load_backbone
from training.classification import features as module
from training.classification.features import extract, fit_linear
from training.classification.network import Transfer


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Transfer(load_backbone("test_efficientnet", "none"), 32, 3).eval()


def test_features_are_what_the_head_gets_of_an_image_and_of_its_mirror_image(network, draw, accelerator, tmp_path):
    images = draw(4).images
    found = extract(network, images, tmp_path, "seen", accelerator, views=2)
    assert found.shape == (2, 12, network.head.in_features)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        for view, seen in enumerate((pixels, pixels.flip(3))):
            np.testing.assert_allclose(found[view], network.features(seen), rtol=1e-2, atol=1e-3)
            torch.testing.assert_close(network(network.features(seen)), network(seen))


def test_features_are_kept_until_images_or_weights_change(network, draw, accelerator, tmp_path, monkeypatch):
    images = draw(4).images
    first = extract(network, images, tmp_path, "seen", accelerator)
    with monkeypatch.context() as patch:
        patch.setattr(module, "predict", lambda *_, **__: pytest.fail("computed again"))
        np.testing.assert_array_equal(extract(network, images, tmp_path, "seen", accelerator), first)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])  # damaged
    np.testing.assert_array_equal(extract(network, images, tmp_path, "seen", accelerator), first)
    extract(network, images, tmp_path, "other", accelerator)
    with torch.no_grad():
        next(network.backbone.parameters()).add_(1)
    assert not np.array_equal(extract(network, images, tmp_path, "seen", accelerator), first)
    assert len(list(tmp_path.iterdir())) == 3


def blobs(count, classes, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (3 * np.eye(8)[labels] + random.normal(size=(count, 8))).astype(np.float32), labels


@pytest.mark.parametrize(("classes", "validated"), [(2, 20), (4, 20), (4, 120)])
def test_logistic_regression_tells_classes_apart(classes, validated):
    (features, labels), (validation, truth) = blobs(200, classes), blobs(validated, classes, seed=1)
    linear = fit_linear(features[None], labels, validation, truth, classes)
    assert linear.weight.shape == (classes, 8)
    assert linear.accuracy(validation, truth) > 0.9


def test_a_class_without_images_is_never_predicted():
    features, labels = blobs(60, 3)
    linear = fit_linear(features[labels < 2][None], labels[labels < 2], features, labels, 3)
    assert set(linear.logits(features).argmax(1)) == {0, 1}


def test_few_images_of_a_class_are_enough():
    features, labels = blobs(9, 3)
    assert fit_linear(features[None, :7], labels[:7], features, labels, 3).accuracy(features, labels) > 0.5


def test_weights_move_the_decision_towards_the_rare_class():
    features, labels = blobs(400, 2)
    kept = (labels == 0) | (np.arange(400) < 20)
    rates = [
        (fit_linear(features[None, kept], labels[kept], features, labels, 2, weights).logits(features).argmax(1)).mean()
        for weights in ((), (0.5, 10.0))
    ]
    assert rates[1] > rates[0]
