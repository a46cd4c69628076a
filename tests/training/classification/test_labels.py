import dataclasses

import numpy as np
import pytest
import torch

from tests.training.quick import LEARNING, SETTINGS, score
from tests.training.steps import loss_of
from training.classification.labels import LabelledImages, predict
from training.classification.learner import Classification
from training.engine.fit import fit


def test_a_plain_classifier_learns_the_labels(tiny_cnn, colours, accelerator, console, tmp_path):
    model = tiny_cnn()
    task = LabelledImages(colours.train, colours.validation, LEARNING.augment)
    fit(model, task, SETTINGS, tmp_path, accelerator=accelerator, console=console)
    assert score(model, colours.test)[1] > 0.9


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_the_classification_task_without_teacher_and_cutmix_has_the_same_loss(tiny_cnn, colours, label_smoothing):
    learning = dataclasses.replace(LEARNING, label_smoothing=label_smoothing)
    network, items = tiny_cnn(), torch.arange(30)
    plain = LabelledImages(colours.train, colours.validation, learning.augment, label_smoothing)
    full = Classification(colours.train, colours.validation, learning)
    assert torch.equal(loss_of(plain, network, items)[0], loss_of(full, network, items)[0])


def test_images_that_a_network_enlarges_are_predicted_a_few_at_a_time(tiny_cnn, draw, monkeypatch):
    model, images, seen = tiny_cnn(), draw(3).images, []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr("training.classification.labels.EVALUATION_PIXELS", 4 * 48 * 48)
    model.size = 48
    predict(model, images)
    assert seen == [4, 4, 1]


def test_prediction_goes_over_all_batches_in_order(tiny_cnn, draw, monkeypatch):
    model, images = tiny_cnn(), draw(9).images
    whole = predict(model, images)
    monkeypatch.setattr("training.classification.labels.EVALUATION_BATCH", 4)
    assert whole.shape == (27, 3)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(predict(model, images), whole, rtol=1e-4, atol=1e-5)


def test_mirrored_prediction_is_the_mean_over_both_views(tiny_cnn, draw):
    model, images = tiny_cnn(), draw(4).images
    mean = (predict(model, images) + predict(model, images[:, :, ::-1].copy())) / 2
    np.testing.assert_allclose(predict(model, images, flip=True), mean, rtol=1e-4, atol=1e-5)
