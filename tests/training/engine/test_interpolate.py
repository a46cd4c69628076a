from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from training.classification.recipe import log_likelihood
from training.data.images import ImageSplit
from training.engine.interpolate import WEIGHTS, interpolate


class Scaled(nn.Module):
    """Predicts the strongest colour, rotated by its only weight: 1 is the best, lower and higher weights err."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.register_buffer("steps", torch.tensor(7))

    def forward(self, pixels):
        mean = pixels.mean((2, 3)) - 0.5
        turned = torch.stack((mean[:, 1], mean[:, 2], mean[:, 0]), 1)
        return 10 * (mean - (self.weight - 1).abs() * turned)


@pytest.fixture
def validation():
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 1, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    return ImageSplit(images, images[:, 0, 0].argmax(1).astype(np.int64))


@pytest.mark.parametrize(("end", "share"), [(1.0, 1.0), (2.0, 0.5), (5.0, 0.2)])
def test_interpolation_ends_at_the_lowest_validation_loss(validation, end, share):
    model = Scaled(end).eval()
    assert interpolate(model, Scaled(0.0).state_dict(), partial(log_likelihood, split=validation)) == share
    assert model.weight.item() == pytest.approx(1.0)
    assert model.steps.item() == 7


def test_interpolating_all_the_way_leaves_the_weights_unchanged(validation):
    model = Scaled(0.75).eval()
    assert interpolate(model, Scaled(0.25).state_dict(), partial(log_likelihood, split=validation)) == WEIGHTS[-1]
    assert model.weight.item() == 0.75
