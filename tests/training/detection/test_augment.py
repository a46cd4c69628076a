import numpy as np
import pytest
import torch

from training.detection.augment import View, augment
from training.detection.options import AugmentOptions

PLAIN = AugmentOptions(flip=False, flip_vertical=False, scale=(1.0, 1.0), mosaic=0.0, colour=0.0)


def batch(squares, settings, seed=0, items=range(16), mosaics=True):
    train = squares.train
    return augment(
        settings,
        train.images,
        [torch.from_numpy(train.boxes[i]) for i in range(len(train))],
        [torch.from_numpy(labels) for labels in train.labels],
        torch.tensor(list(items)),
        torch.Generator().manual_seed(seed),
        mosaics=mosaics,
    )


def colour_at(pixels, x, y):
    """0 for red, 1 for blue, by the brightest channel."""
    return {0: 0, 2: 1}[int(pixels[:, int(y), int(x)].argmax())]


def test_without_any_augmentation_images_and_boxes_stay(squares):
    pixels, boxes, labels = batch(squares, PLAIN)
    expected = torch.from_numpy(squares.train.images[:16]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)
    for index in range(16):
        np.testing.assert_allclose(boxes[index], squares.train.boxes[index], atol=1e-3)
        np.testing.assert_array_equal(labels[index], squares.train.labels[index])


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_box_frames_an_object_of_its_colour_and_no_object_is_without_one(squares, seed, mosaic):
    settings = AugmentOptions(flip_vertical=True, scale=(0.6, 1.6), mosaic=mosaic, colour=0.0)
    pixels, boxes, labels = batch(squares, settings, seed)
    count = 0
    for image, corners, classes in zip(pixels, boxes, labels, strict=True):
        coloured = ((image - image.mean(0)).abs().amax(0) > 0.3).numpy()
        for (x_min, y_min, x_max, y_max), label in zip(corners.tolist(), classes.tolist(), strict=True):
            assert 0 <= x_min < x_max <= 96
            assert 0 <= y_min < y_max <= 64
            assert colour_at(image, (x_min + x_max) / 2, (y_min + y_max) / 2) == label
            inside = coloured[round(y_min) : round(y_max), round(x_min) : round(x_max)]
            assert inside.mean() > 0.7
            coloured[max(0, round(y_min) - 2) : round(y_max) + 2, max(0, round(x_min) - 2) : round(x_max) + 2] = False
            count += 1
        # Only slivers of cropped objects are left without a box.
        assert coloured.mean() < 0.06
    assert count > 10


def test_flips_turn_boxes_with_the_image(squares):
    view = View((64, 96), (64, 96), 1.0, 0.0, 0.0, flip=True, flip_vertical=True)
    image = torch.from_numpy(squares.train.images[0])
    torch.testing.assert_close(view.pixels(image), image.flip(0, 1).permute(2, 0, 1) / 255, atol=1e-4, rtol=0)
    moved, visible = view.boxes(torch.tensor([[10.0, 20, 30, 60]]))
    assert moved.tolist() == [[66, 4, 86, 44]]
    assert visible.tolist() == [True]


def test_a_crop_cuts_boxes_and_drops_what_it_hardly_shows():
    view = View((64, 96), (32, 48), 1.0, 16.0, 24.0, flip=False, flip_vertical=False)
    boxes = torch.tensor([[20.0, 20, 40, 40], [0, 0, 10, 10], [10, 20, 26, 40], [64, 20, 80, 40]])
    moved, visible = view.boxes(boxes)
    assert visible.tolist() == [True, False, False, True]
    assert moved[0].tolist() == [0, 4, 16, 24]
    assert moved[3].tolist() == [40, 4, 48, 24]


def test_padding_beyond_the_image_is_grey(squares):
    view = View((64, 96), (64, 96), 0.5, -32.0, -48.0, flip=False, flip_vertical=False)
    pixels = view.pixels(torch.from_numpy(squares.train.images[0]))
    torch.testing.assert_close(pixels[:, :14], torch.full((3, 14, 96), 114 / 255))


def test_same_generator_same_batch_and_mosaics_only_when_allowed(squares):
    settings = AugmentOptions(mosaic=1.0)
    one, two = batch(squares, settings, seed=5), batch(squares, settings, seed=5)
    assert torch.equal(one[0], two[0])
    assert not torch.equal(one[0], batch(squares, settings, seed=6)[0])
    whole = batch(squares, AugmentOptions(mosaic=1.0, colour=0, scale=(1, 1), flip=False), mosaics=False)[0]
    torch.testing.assert_close(
        whole[0], torch.from_numpy(squares.train.images[0]).permute(2, 0, 1) / 255, atol=1e-4, rtol=0
    )


def test_colour_jitter_changes_colours_within_range(squares):
    pixels, _, _ = batch(squares, AugmentOptions(flip=False, scale=(1, 1), mosaic=0, colour=0.5))
    plain, _, _ = batch(squares, PLAIN)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert ((pixels - plain).abs().mean((1, 2, 3)) > 0.01).float().mean() > 0.8
