import dataclasses

import numpy as np
import pytest

from training.classification.choice import (
    PHOTOGRAPHS,
    augmentation,
    choose,
    class_weights,
    fit_defaults,
    fit_settings,
)
from training.classification.options import (
    DEFAULTS,
    AugmentOptions,
    ClassificationOptions,
    LossOptions,
    NetworkSettings,
)
from training.data.augment import Augment, PhotoAugment
from training.data.images import ImageData, ImageSplit
from training.options import BackboneFitOptions


def images(count, side, channels=3, labels=None):
    """Strides of 0 give arrays of the size of photographs without using their memory."""
    labels = np.arange(count) % 2 if labels is None else labels
    split = ImageSplit(np.broadcast_to(np.zeros(channels, np.uint8), (count, side, side, channels)), labels)
    return ImageData("", ("a", "b"), split, split, split, "")


def options(**network):
    return ClassificationOptions(network=NetworkSettings(**network))


@pytest.mark.parametrize(
    ("data", "arch", "because"),
    [
        (images(45_000, 32), "cnn", "the images are small (32 x 32)"),
        (images(45_000, 224), "transfer", "the images have 224 x 224 pixels"),
        (images(300, 96, channels=1), "transfer", "the images have 96 x 96 pixels"),
        (
            dataclasses.replace(images(300, 96), original=(375, 500)),
            "transfer",
            "the images have about 500 x 375 pixels",
        ),
        (images(300, 32), "transfer", "300 images are few"),
        (images(300, 28, channels=1), "cnn", "the images are small (28 x 28)"),
        (images(300, 12), "cnn", "the images are small (12 x 12)"),
    ],
)
def test_the_network_follows_from_the_size_and_number_of_the_images(data, arch, because):
    chosen, why = choose(options(), data)
    assert (chosen.network.arch, why) == (arch, because)


def test_without_pretrained_weights_the_network_is_the_cnn_and_that_is_said(monkeypatch):
    def refuse(name, weights):
        raise ValueError("pip install weights")

    monkeypatch.setattr("training.classification.choice.check_backbone", refuse)
    chosen, why = choose(options(), images(300, 224))
    assert chosen.network.arch == "cnn"
    assert why.endswith("but there are no pretrained weights (pip install weights)")


@pytest.mark.parametrize(
    ("given", "arch"), [({"arch": "mlp"}, "mlp"), ({"widths": (8, 8)}, "cnn"), ({"freeze": -1}, "transfer")]
)
def test_options_of_one_network_choose_it(given, arch):
    chosen, why = choose(options(**given), images(45_000, 32) if arch == "transfer" else images(300, 224))
    assert (chosen.network.arch, why) == (arch, "")


def test_photographs_are_seen_at_224_pixels_and_the_first_layers_keep_their_weights():
    def network(data, **given):
        chosen = choose(options(arch="transfer", **given), data)[0].network
        return chosen.network_size, chosen.start_size, chosen.freeze, chosen.freeze_norms

    assert network(images(500, 100)) == (224, 176, 3, True)
    assert network(images(499, 100)) == (224, 176, -1, True)
    assert network(images(45_000, 32)) == (128, 64, 0, False)
    assert network(images(300, 100), weights="none") == (224, 176, 0, False)
    assert network(images(300, 100), network_size=160, start_size=96, freeze=0) == (160, 96, 0, True)


def test_few_photographs_are_seen_more_often():
    def epochs(count):
        return fit_defaults("transfer", images(count, 224)).epochs

    assert [epochs(count) for count in (200, 1_500, 50_000)] == [15, 7, 4]
    assert fit_defaults("transfer", images(1_500, 32)).epochs == DEFAULTS["transfer"].epochs


def test_batches_shrink_where_images_are_large_or_few_and_the_rate_with_them():
    def defaults(arch, count, side, batch_size=None):
        return fit_defaults(arch, images(count, side), batch_size)

    assert all(defaults(arch, 45_000, 32) == DEFAULTS[arch] for arch in DEFAULTS)
    assert defaults("cnn", 45_000, 224).batch_size == 94
    assert defaults("cnn", 45_000, 224).lr == pytest.approx(DEFAULTS["cnn"].lr * 94 / 512)
    assert defaults("mlp", 45_000, 224).batch_size == 167
    few = defaults("transfer", 640, 32)
    assert few.batch_size == 32
    assert few.backbone_lr == pytest.approx(DEFAULTS["transfer"].backbone_lr / 2)
    assert defaults("transfer", 640, 100).backbone_lr == pytest.approx(PHOTOGRAPHS.backbone_lr / 2)
    assert defaults("mlp", 30, 32).batch_size == 16
    assert defaults("cnn", 45_000, 32, batch_size=256).lr == pytest.approx(DEFAULTS["cnn"].lr / 2)


def test_trainings_end_early_unless_that_is_switched_off():
    def patience(**given):
        return fit_settings(
            dataclasses.replace(options(arch="cnn"), fit=BackboneFitOptions(**given)), images(500, 32)
        ).patience

    assert [patience(), patience(epochs=4), patience(epochs=60), patience(patience=0)] == [10, 5, 30, 0]


def test_photographs_are_cropped_small_images_shifted_and_long_trainings_mixed():
    def augment(side, epochs=10, arch="transfer", **given):
        chosen = dataclasses.replace(options(arch=arch), augment=AugmentOptions(**given))
        return augmentation(chosen, images(300, side), epochs)

    assert augment(224) == PhotoAugment(trivial=False)
    assert augment(224, augment="trivial", flip=False) == PhotoAugment(flip=False)
    assert augment(224, epochs=40) == PhotoAugment(cutmix=0.25, mixup=0.25)
    assert augment(224, epochs=40, mixup=0.0) == PhotoAugment(cutmix=0.25)
    assert augment(64) == Augment(translate=8, cutout=16)
    assert augment(64, cutout=3, cutmix=0.5) == Augment(translate=8, cutout=3, cutmix=0.5)
    assert augment(224, arch="mlp") == Augment(translate=14, cutout=0)
    assert augment(32, augment="trivial") == PhotoAugment()


def test_rare_classes_weigh_more_in_the_loss_if_classes_are_unbalanced():
    def weights(counts, kind="auto"):
        labels = np.repeat([0, 1], counts)
        chosen = dataclasses.replace(options(arch="cnn"), loss=LossOptions(class_weights=kind))
        return class_weights(chosen, images(len(labels), 32, labels=labels))

    assert weights((60, 40)) == weights((1000, 10), "none") == ()
    common, rare = weights((900, 9))
    assert rare == pytest.approx(10 * common, rel=1e-3)
    assert (900 * common + 9 * rare) / 909 == pytest.approx(1, rel=1e-3)
    assert weights((60, 40), "balanced")[1] > 1
