from pathlib import Path

import numpy as np
import pytest
import torch

from training.backbones.cnn import CNN, Normalize
from training.classification.narrowing import importance, is_wider, start_narrower, take_filters
from training.data.images import ImageData, ImageSplit
from training.engine.weights import keep_weights

CLASSES = ("a", "b", "c")


def network(widths: tuple[int, ...], depth: int, seed: int = 0) -> CNN:
    torch.manual_seed(seed)
    return CNN(Normalize(torch.full((3,), 0.4), torch.full((3,), 0.3)), (16, 16, 3), len(CLASSES), widths, depth).eval()


@pytest.fixture
def data() -> ImageData:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, 16, 16, 3), dtype=np.uint8)
    split = ImageSplit(images, generator.integers(0, len(CLASSES), 300))
    return ImageData("noise", CLASSES, split, split, split, "", frozenset())


@torch.no_grad()
def without_half_of_its_filters(widths: tuple[int, ...], depth: int) -> CNN:
    """A network in which every other filter of each layer answers 0."""
    wide = network(widths, depth)
    for group in wide.groups:
        for norm in group.norms:
            norm.weight.normal_()
            norm.bias.normal_()
            norm.weight[::2] = norm.bias[::2] = 0
    return wide


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_filters_that_do_nothing_are_left_out(depth: int, data: ImageData):
    wide, narrow = without_half_of_its_filters((8, 12), depth), network((4, 6), depth, seed=1)
    take_filters(wide, narrow, importance(wide, data.train))
    pixels = torch.rand(5, 3, 16, 16)
    torch.testing.assert_close(narrow(pixels), wide(pixels))


def test_a_version_of_a_wider_network_is_started_from(tmp_path: Path, data: ImageData):
    wide, narrow = without_half_of_its_filters((8, 12), 3), network((4, 12), 3, seed=1)
    keep_weights(wide, tmp_path)
    assert is_wider(narrow, tmp_path)
    start_narrower(narrow, tmp_path, data)
    pixels = torch.rand(5, 3, 16, 16)
    # The weights were kept in half precision.
    torch.testing.assert_close(narrow(pixels), wide(pixels), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("widths", [(8, 12), (16, 6), (4,)])
def test_no_wider_network(tmp_path: Path, widths: tuple[int, ...]):
    keep_weights(network((8, 12), 3), tmp_path)
    assert not is_wider(network(widths, 3), tmp_path)


def test_a_network_of_another_depth_is_refused(tmp_path: Path, data: ImageData):
    keep_weights(network((8, 12), 2), tmp_path)
    with pytest.raises(ValueError, match="is a run of another network"):
        start_narrower(network((4, 6), 3), tmp_path, data)
