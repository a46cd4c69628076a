"""From encoded images to the classifier's input."""

import numpy as np

from service.tasks.classification.manifest import ClassifierManifest
from service.tasks.classification.task import prepare
from service.tasks.images import EncodedImage, fit
from tests.pictures import encode, photograph
from tests.tiny import manifest, solid

CARD = ClassifierManifest.model_validate({**manifest(), "files": {}})


def test_prepare_gives_the_size_and_channels_of_the_manifest():
    pixels = photograph(50, 70)
    np.testing.assert_array_equal(prepare(EncodedImage.open(encode(pixels)), CARD)[0], fit(pixels, 8, 8))
    grey = CARD.model_copy(update={"image": CARD.image.model_copy(update={"channels": 1, "height": 5, "width": 6})})
    assert prepare(EncodedImage.open(encode(pixels)), grey)[0].shape == (5, 6, 1)


def test_prepare_leaves_the_right_size_alone():
    np.testing.assert_array_equal(prepare(EncodedImage.open(encode(solid("green"))), CARD)[0], solid("green"))


def test_prepare_of_a_large_jpeg_is_near_its_whole():
    pixels = photograph(600, 800)
    small, _ = prepare(EncodedImage.open(encode(pixels, "JPEG", quality=95)), CARD)
    assert np.abs(small.astype(int) - fit(pixels, 8, 8)).mean() < 3
