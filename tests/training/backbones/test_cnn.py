import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training.backbones.cnn import CNN, Normalize, stride_for
from training.data.augment import to_pixels
from training.data.images import ImageSplit


def normalize(channels=3):
    return Normalize(torch.full((channels,), 0.5), torch.full((channels,), 0.25))


def random_pixels(batch, shape, seed=0):
    height, width, channels = shape
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def random_split(count=200, shape=(12, 12, 3), seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return ImageSplit(images, np.zeros(count, dtype=np.int64))


def test_normalisation_gives_each_channel_mean_zero_and_deviation_one():
    split = random_split()
    split.images[..., 1] //= 4
    pixels = Normalize.of(split)(to_pixels(torch.from_numpy(split.images)))
    np.testing.assert_allclose(pixels.mean((0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(pixels.std((0, 2, 3)), 1, atol=1e-3)


def test_constant_channel_is_normalised_to_something_finite():
    split = random_split()
    split.images[..., 2] = 255
    pixels = Normalize.of(split)(to_pixels(torch.from_numpy(split.images)))
    assert torch.isfinite(pixels).all()
    assert pixels[:, 2].abs().max() < 1


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (96, 96, 3), (33, 47, 3), (9, 9, 1)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_cnn_gives_logits_for_images_of_many_shapes(shape, depth):
    network = CNN(normalize(shape[2]), shape, 7, widths=(4, 8, 8), depth=depth).eval()
    assert network(random_pixels(2, shape)).shape == (2, 7)


@pytest.mark.parametrize(("side", "stride"), [(32, 1), (95, 1), (96, 2), (191, 2), (224, 4), (512, 8)])
def test_what_follows_the_first_convolution_costs_the_same_for_photographs(side, stride):
    assert stride_for(side, side + 9) == stride
    network = CNN(normalize(), (side, side, 3), 7, widths=(4, 8), depth=1)
    network.init_whiten(random_pixels(8, (side, side, 3)))
    features = network.whiten(random_pixels(1, (side, side, 3)))
    assert features.shape[2] < 96
    assert torch.isfinite(network(random_pixels(2, (side, side, 3)))).all()


@pytest.mark.parametrize(("side", "groups"), [(28, 3), (32, 3), (47, 3), (95, 4), (96, 3), (224, 4)])
def test_larger_images_get_more_groups_of_the_last_width(side, groups):
    network = CNN(normalize(), (side, side, 3), 7, widths=(4, 6, 8), depth=1)
    widths = [group.convs[0].out_channels for group in network.groups]
    assert widths == [4, 6, 8, 8, 8, 8][:groups]


def test_small_images_get_the_groups_that_were_asked_for_and_no_more():
    network = CNN(normalize(), (32, 32, 3), 7, widths=(4, 6), depth=1)
    assert [group.convs[0].out_channels for group in network.groups] == [4, 6]


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 40, 3), (40, 8, 3)])
def test_images_too_small_for_the_groups_are_refused(shape):
    with pytest.raises(ValueError, match=f"{shape[0]} x {shape[1]} pixels are too small for 3 groups"):
        CNN(normalize(), shape, 7, widths=(4, 8, 8))


def test_whitened_patches_have_a_covariance_near_the_identity():
    # Neighbouring pixels are correlated, as in a photograph.
    noise = random_pixels(300, (14, 14, 3))
    images = (255 * F.avg_pool2d(noise, 3, stride=1)).byte().permute(0, 2, 3, 1).numpy()
    split = ImageSplit(images, np.zeros(len(images), dtype=np.int64))
    network = CNN(Normalize.of(split), (12, 12, 3), 7, widths=(4,), depth=1)
    pixels = to_pixels(torch.from_numpy(images))

    def covariance():
        with torch.no_grad():
            responses = network.whiten(network.normalize(pixels)).transpose(0, 1).flatten(1)[:12]
        return responses @ responses.T / responses.shape[1]

    assert (covariance() - torch.eye(12)).abs().max() > 0.3
    network.init_whiten(pixels)
    np.testing.assert_allclose(covariance(), np.eye(12), atol=0.05)
    assert torch.equal(network.whiten.weight[12:], -network.whiten.weight[:12])
    assert not network.whiten.bias.any()


def test_whitening_filters_stay_as_they_are_while_their_bias_learns():
    network = CNN(normalize(), (12, 12, 3), 7, widths=(4,), depth=1)
    network(random_pixels(4, (12, 12, 3))).sum().backward()
    assert network.whiten.weight.grad is None
    assert network.whiten.bias.grad is not None
    assert all(p.grad is not None for p in network.groups.parameters())
