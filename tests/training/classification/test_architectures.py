import numpy as np
import pytest
import torch

from training.backbones.cnn import CNN
from training.classification.architectures import build, fit_defaults
from training.classification.network import MLP, Transfer
from training.classification.options import DEFAULTS, NetworkSettings
from training.data.images import ImageData, ImageSplit


@pytest.mark.parametrize(("arch", "kind"), [("cnn", CNN), ("mlp", MLP), ("transfer", Transfer)])
def test_build_gives_the_network_of_each_architecture_for_the_data(colours, arch, kind):
    settings = NetworkSettings(arch=arch, backbone="test_efficientnet", weights="none", network_size=32)
    network = build(settings, colours, seed=0).eval()
    assert isinstance(network, kind)
    assert network(torch.rand(2, 3, 12, 12)).shape == (2, 3)


def test_build_follows_the_seed(colours):
    first, again, other = (build(NetworkSettings(widths=(8, 8)), colours, seed) for seed in (1, 1, 2))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_build_whitens_with_the_training_images(colours):
    first = build(NetworkSettings(widths=(8, 8)), colours, seed=1)
    other = build(NetworkSettings(widths=(8, 8)), colours, seed=2)
    assert torch.equal(first.whiten.weight, other.whiten.weight)
    assert torch.equal(first.whiten.weight[:12], -first.whiten.weight[12:])


@pytest.mark.parametrize(("asked", "size"), [(96, 96), (12, 0), (8, 0), (0, 0)])
def test_images_are_enlarged_for_a_backbone_and_never_shrunk(colours, asked, size):
    settings = NetworkSettings(arch="transfer", backbone="test_efficientnet", weights="none", network_size=asked)
    assert build(settings, colours, seed=0).size == size


def test_batches_shrink_where_images_are_large_or_few_and_the_rate_with_them(draw):
    def defaults(arch, count, side, batch_size=None):
        # Strides of 0 give arrays of the size of photographs without using their memory.
        images = np.broadcast_to(np.zeros(3, np.uint8), (count, side, side, 3))
        split = ImageSplit(images, np.zeros(count, np.int64))
        return fit_defaults(arch, ImageData("", ("a", "b"), split, split, split, ""), batch_size)

    assert all(defaults(arch, 45_000, 32) == DEFAULTS[arch] for arch in DEFAULTS)
    assert defaults("cnn", 45_000, 224).batch_size == 94
    assert defaults("cnn", 45_000, 224).lr == pytest.approx(DEFAULTS["cnn"].lr * 94 / 512)
    assert defaults("mlp", 45_000, 224).batch_size == 167
    few = defaults("transfer", 640, 32)
    assert few.batch_size == 32
    assert few.backbone_lr == pytest.approx(DEFAULTS["transfer"].backbone_lr / 2)
    assert defaults("mlp", 30, 32).batch_size == 16
    assert defaults("cnn", 45_000, 32, batch_size=256).lr == pytest.approx(DEFAULTS["cnn"].lr / 2)


def test_a_backbone_of_one_input_size_gets_that_size(colours):
    settings = NetworkSettings(arch="transfer", backbone="test_vit", weights="none", network_size=64)
    network = build(settings, colours, seed=0).train()
    side = network.backbone.pretrained_cfg["input_size"][-1]
    assert (network.size, network.start_size) == (side, side)
    assert network(torch.rand(2, 3, 12, 12)).shape == (2, 3)
