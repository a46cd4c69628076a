import dataclasses

import numpy as np
import pytest
import torch

import training.classification.learner
from tests.training.quick import LEARNING, SETTINGS, score
from tests.training.steps import loss_of
from training.backbones.registry import load_backbone
from training.classification.distill import Guided, Teaching, feature_loss
from training.classification.learner import (
    Classification,
    ClassificationSettings,
    HeadOnFeatures,
    predict,
)
from training.classification.network import Transfer
from training.data.augment import Augment, PhotoAugment, to_pixels
from training.data.images import ImageSplit
from training.engine.fit import fit
from training.engine.streams import Stream, generator


def test_a_network_that_starts_with_small_images_is_given_the_training_progress(colours):
    backbone = load_backbone("test_efficientnet", "none")
    network = Transfer(backbone, 96, 3, dropout=0.0, frozen=0, start_size=32)
    task = Classification(colours.train, colours.validation, LEARNING)
    sizes = []
    for epoch in range(4):
        task.begin(network, epoch, 4)
        sizes.append(network.training_size)
    assert sizes == [32, 56, 72, 96]


def test_the_distillation_weight_balances_teacher_and_labels(tiny_cnn, train_on, colours, tmp_path):
    """A teacher that predicts the next colour for every image."""
    wrong = np.eye(3, dtype=np.float32)[(colours.train.labels + 1) % 3] * 0.9 + 1 / 30
    settings, learning = dataclasses.replace(SETTINGS, epochs=3), dataclasses.replace(LEARNING, distill=0.95)
    model = tiny_cnn()
    train_on(model, tmp_path / "with", settings, learning, teacher=Teaching(np.stack((wrong, wrong))))
    answers = predict(model, colours.test.images).argmax(1)
    assert (answers == (colours.test.labels + 1) % 3).mean() > 0.9


def test_mirrored_images_are_trained_with_the_teachers_prediction_for_the_mirror_image(
    tiny_cnn, train_on, colours, tmp_path, monkeypatch
):
    """The first probability shows which of the two views a prediction is for."""
    views = np.zeros((2, len(colours.train), 3), dtype=np.float32)
    views[0, :, 0] = views[1, :, 1] = 1
    seen = []
    real = training.classification.learner.distillation_loss

    def spy(logits, truth, softened, *weights):
        seen.append(softened.argmax(1))
        return real(logits, truth, softened, *weights)

    monkeypatch.setattr("training.classification.learner.distillation_loss", spy)
    settings = dataclasses.replace(SETTINGS, epochs=1)
    train_on(tiny_cnn(), tmp_path, settings, teacher=Teaching(views))
    order = torch.randperm(len(colours.train), generator=generator(Stream.ORDER, settings.seed, 0))
    assert torch.equal(torch.cat(seen), LEARNING.augment.mirrored(order, 0).long()[: len(torch.cat(seen))])


def test_mixed_images_are_learned_with_mixed_labels(tiny_cnn, train_on, colours, tmp_path, monkeypatch):
    truths = []
    real = training.classification.learner.distillation_loss

    def spy(logits, truth, softened, *weights):
        truths.append(truth)
        return real(logits, truth, softened, *weights)

    monkeypatch.setattr("training.classification.learner.distillation_loss", spy)
    learning = ClassificationSettings(augment=Augment(translate=1, cutout=0, cutmix=1.0))
    model = tiny_cnn()
    train_on(model, tmp_path, dataclasses.replace(SETTINGS, epochs=4), learning)
    rows = torch.cat(truths)
    torch.testing.assert_close(rows.sum(1), torch.ones(len(rows)))
    assert ((rows > 0.01) & (rows < 0.99)).any(1).float().mean() > 0.3
    assert score(model, colours.test)[1] > 0.9


@pytest.mark.parametrize("mixed", [0.0, 1.0])
def test_features_are_learned_with_their_weight(tiny_cnn, train_on, colours, tmp_path, mixed):
    """The teacher's features are the mean colours: linear in the pixels, so mixed images have mixed ones."""
    seen = colours.train.images.mean((1, 2)) / 255
    centred = np.stack((seen - seen.mean(0),) * 2).astype(np.float16)
    teacher = Teaching(np.full((2, len(seen), 3), 1 / 3, np.float32), centred)
    losses = {}
    for weight in (0.0, 5.0):
        torch.manual_seed(0)
        learning = ClassificationSettings(distill_features=weight, augment=Augment(translate=1, cutout=0, cutmix=mixed))
        guided = Guided(tiny_cnn(), 3)
        train_on(guided, tmp_path / str(weight), dataclasses.replace(SETTINGS, epochs=4), learning, teacher=teacher)
        mapped = guided.map(guided.inner.features(to_pixels(torch.from_numpy(colours.test.images))))
        told = torch.from_numpy(colours.test.images.mean((1, 2)) / 255 - seen.mean(0)).float()
        losses[weight] = feature_loss(mapped, told).item()
    assert losses[5.0] < losses[0.0] / 2


def test_a_plain_classifier_learns_the_labels(tiny_cnn, colours, accelerator, console, tmp_path):
    model = tiny_cnn()
    task = Classification(colours.train, colours.validation, LEARNING)
    fit(model, task, SETTINGS, tmp_path, accelerator=accelerator, console=console)
    assert score(model, colours.test)[1] > 0.9


def test_images_that_a_network_enlarges_are_predicted_a_few_at_a_time(tiny_cnn, draw, monkeypatch):
    model, images, seen = tiny_cnn(), draw(3).images, []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr("training.classification.learner.EVALUATION_PIXELS", 4 * 48 * 48)
    model.size = 48
    predict(model, images)
    assert seen == [4, 4, 1]


def test_prediction_goes_over_all_batches_in_order(tiny_cnn, draw, monkeypatch):
    model, images = tiny_cnn(), draw(9).images
    whole = predict(model, images)
    monkeypatch.setattr("training.classification.learner.EVALUATION_BATCH", 4)
    assert whole.shape == (27, 3)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(predict(model, images), whole, rtol=1e-4, atol=1e-5)


def test_mirrored_prediction_is_the_mean_over_both_views(tiny_cnn, draw):
    model, images = tiny_cnn(), draw(4).images
    mean = (predict(model, images) + predict(model, images[:, :, ::-1].copy())) / 2
    np.testing.assert_allclose(predict(model, images, flip=True), mean, rtol=1e-4, atol=1e-5)


def test_between_epochs_of_one_accuracy_the_likelihood_decides_and_never_against_it():
    labels = np.array([0, 1, 0, 1])
    good, better = (np.eye(2, dtype=np.float32)[labels] * scale for scale in (1, 1))
    good = good + np.array([[0, 0.9], [0, 0], [0, 0], [0, 0]], np.float32)
    worse = better * 100
    worse[0] = [-0.1, 0]
    validation = ImageSplit(np.zeros((4, 8, 8, 3), np.uint8), labels)
    task = Classification(validation, validation, LEARNING, break_ties=True)
    by_accuracy = [task.figures(logits) for logits in (worse, good, better)]
    assert [each["accuracy"] for each in by_accuracy] == [0.75, 1, 1]
    scores = [each["score"] for each in by_accuracy]
    assert scores == sorted(scores)
    assert scores[1] < scores[2]


def test_photographs_are_cropped_to_the_size_of_the_epoch(draw):
    network = Transfer(load_backbone("test_efficientnet", "none"), 0, 3, start_size=32, end_size=96)
    learning = ClassificationSettings(augment=PhotoAugment())
    task = Classification(draw(4, size=100), draw(4, size=100), learning)
    for epoch, side in enumerate((32, 56, 72, 96)):
        task.begin(network, epoch, 4)
        batch = task.batch(torch.arange(5), epoch, torch.Generator().manual_seed(0))
        assert batch["images"].shape == (5, side, side, 3)
        assert torch.isfinite(loss_of(task, network, torch.arange(5), epoch)[0])


def test_a_weighted_class_is_predicted_more_often(tiny_cnn, train_on, colours, tmp_path):
    counts = {}
    for weights in ((), (0.01, 0.01, 10.0)):
        model = tiny_cnn()
        learning = dataclasses.replace(LEARNING, class_weights=weights)
        train_on(model, tmp_path / str(len(weights)), dataclasses.replace(SETTINGS, epochs=1, ema=0), learning)
        counts[weights] = (predict(model, colours.test.images).argmax(1) == 2).sum()
    assert counts[0.01, 0.01, 10.0] > counts[()]


def test_a_head_learns_on_features_that_were_computed_once(accelerator, console, draw, tmp_path):
    torch.manual_seed(0)
    network = Transfer(load_backbone("test_efficientnet", "none"), 32, 3, frozen=-1).eval()
    train, validation = draw(20, seed=1), draw(10, seed=2)
    # The mean colours in place of features: linear.
    features, validated = np.zeros((2, 60, network.head.in_features)), np.zeros((30, network.head.in_features))
    features[:, :, :3], validated[:, :3] = train.images.mean((1, 2)) / 255, validation.images.mean((1, 2)) / 255
    task = HeadOnFeatures(train, validation, LEARNING, None, features.astype(np.float32), validated.astype(np.float32))
    network.backbone.register_forward_pre_hook(lambda *_: pytest.fail("the backbone was run"))
    settings = dataclasses.replace(SETTINGS, epochs=4, lr=1.0)
    state = fit(network, task, settings, tmp_path, accelerator=accelerator, console=console)
    assert state.history[-1]["validation_accuracy"] > 0.9
