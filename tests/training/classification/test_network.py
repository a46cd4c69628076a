import numpy as np
import pytest
import torch
import torch.nn.functional as F

from service.inference.cards import GoldenCard
from service.inference.session import Session
from training.backbones.cnn import CNN, Normalize
from training.backbones.registry import load_backbone
from training.classification.learner import predict
from training.classification.network import MLP, ClassifierGraph, Transfer, build
from training.classification.options import NetworkSettings
from training.export.calibration import Scaling, softmax
from training.export.graph import export, torch_outputs

# The smallest network that timm offers with batch normalisation.
SMALL = "test_efficientnet"


def normalize(channels=3):
    return Normalize(torch.full((channels,), 0.5), torch.full((channels,), 0.25))


def random_pixels(batch, shape, seed=0):
    height, width, channels = shape
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 7, 3)])
def test_mlp_gives_logits_through_three_hidden_layers(shape):
    network = MLP(normalize(shape[2]), shape, 7, dropout=0.1).eval()
    assert network(random_pixels(2, shape)).shape == (2, 7)
    linear = [layer.out_features for layer in network if isinstance(layer, torch.nn.Linear)]
    assert linear == [1024, 512, 256, 7]


@pytest.mark.parametrize("build", [
    lambda: MLP(normalize(), (12, 12, 3), 7, dropout=0.5),
    lambda: CNN(normalize(), (12, 12, 3), 7, widths=(8,), depth=1, dropout=0.5),
])  # fmt: skip
def test_dropout_acts_in_training_and_not_in_evaluation(build):
    network = build()
    pixels = random_pixels(4, (12, 12, 3))
    assert not torch.equal(network.train()(pixels), network(pixels))
    assert torch.equal(network.eval()(pixels), network(pixels))


def transfer(size=0, frozen=0):
    return Transfer(load_backbone(SMALL, "none"), size, 5, 0.0, frozen)


def one_step(network, shape=(32, 32, 3)):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    F.cross_entropy(network(random_pixels(4, shape)), torch.arange(4)).backward()
    optimizer.step()
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def test_frozen_backbone_keeps_weights_and_statistics_in_training():
    changed = one_step(transfer(frozen=-1))
    assert changed == {"head.weight", "head.bias"}


def test_first_groups_keep_weights_and_statistics_and_the_later_ones_learn():
    changed = one_step(transfer(frozen=2))
    early = [name for name in changed if name.startswith(("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0."))]
    assert early == []
    assert any(name.startswith("backbone.blocks.1.") and name.endswith("running_mean") for name in changed)
    assert any(name.startswith("backbone.blocks.1.") and name.endswith("weight") for name in changed)


def test_frozen_groups_include_parameters_outside_their_modules():
    # A vision transformer's class token and position embedding belong to its stem, but hang at the root.
    network = Transfer(load_backbone("test_vit", "none"), 160, 5, 0.0, 2)
    assert not network.backbone.cls_token.requires_grad
    assert not network.backbone.pos_embed.requires_grad
    assert any(parameter.requires_grad for parameter in network.backbone.parameters())


def test_backbone_that_is_not_frozen_learns_and_gathers_statistics():
    changed = one_step(transfer())
    assert {"head.weight", "head.bias"} < changed
    assert any(name.startswith("backbone.") and name.endswith("running_mean") for name in changed)
    assert any(name.startswith("backbone.") and name.endswith("conv_stem.weight") for name in changed)


def test_transfer_returns_to_training_mode_only_around_a_frozen_backbone():
    network = transfer(frozen=-1).train()
    assert network.head.training
    assert not any(module.training for module in network.backbone.modules())
    assert all(module.training for module in transfer().train().backbone.modules())


def test_transfer_enlarges_images_and_takes_grey_as_three_equal_channels():
    network = transfer(size=48).eval()
    grey = random_pixels(2, (20, 20, 1))
    sizes = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    logits = network(grey)
    assert logits.shape == (2, 5)
    assert sizes == [(2, 3, 48, 48)]
    torch.testing.assert_close(logits, network(grey.repeat(1, 3, 1, 1)))


def test_training_images_grow_to_their_full_size_over_three_quarters_of_the_training():
    network = Transfer(load_backbone("test_efficientnet", "none"), 96, 3, 0.0, 0, start_size=32)
    sizes = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    network.train()
    for progress in (0.0, 0.25, 0.5, 0.74, 0.75, 0.9):
        network.set_progress(progress)
        network(torch.rand(2, 3, 12, 12))
    assert sizes == [32, 56, 72, 96, 96, 96]
    sizes.clear()
    network.set_progress(0.0)
    network.eval()
    network(torch.rand(2, 3, 12, 12))
    assert sizes == [96]


@pytest.mark.parametrize("start", [None, 0, 64, 200])
def test_images_never_start_larger_than_they_end(start):
    network = Transfer(load_backbone("test_efficientnet", "none"), 64, 3, 0.0, 0, start_size=start)
    network.set_progress(0.0)
    assert network.training_size == 64


def test_transfer_normalises_as_its_backbone_was_trained():
    network = transfer()
    config = load_backbone(SMALL, "none").module.pretrained_cfg
    np.testing.assert_allclose(network.normalize.mean.flatten(), config["mean"])
    np.testing.assert_allclose(network.normalize.std.flatten(), config["std"])


@pytest.mark.parametrize(("arch", "kind"), [("cnn", CNN), ("mlp", MLP), ("transfer", Transfer)])
def test_build_gives_the_network_of_each_architecture_for_the_data(colours, arch, kind):
    settings = NetworkSettings(arch=arch, backbone="test_efficientnet", weights="none", network_size=32)
    network = build(settings, colours, seed=0).eval()
    assert isinstance(network, kind)
    assert network(torch.rand(2, 3, 12, 12)).shape == (2, 3)


def test_build_follows_the_seed(colours):
    first, again, other = (build(NetworkSettings(arch="cnn", widths=(8, 8)), colours, seed) for seed in (1, 1, 2))
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_build_whitens_with_the_training_images(colours):
    first = build(NetworkSettings(arch="cnn", widths=(8, 8)), colours, seed=1)
    other = build(NetworkSettings(arch="cnn", widths=(8, 8)), colours, seed=2)
    assert torch.equal(first.whiten.weight, other.whiten.weight)
    assert torch.equal(first.whiten.weight[:12], -first.whiten.weight[12:])


@pytest.mark.parametrize(("asked", "size"), [(96, 96), (12, 0), (8, 0), (0, 0)])
def test_images_are_enlarged_for_a_backbone_and_never_shrunk(colours, asked, size):
    settings = NetworkSettings(arch="transfer", backbone="test_efficientnet", weights="none", network_size=asked)
    assert build(settings, colours, seed=0).size == size


def test_a_backbone_of_one_input_size_gets_that_size(colours):
    settings = NetworkSettings(arch="transfer", backbone="test_vit", weights="none", network_size=64)
    network = build(settings, colours, seed=0).train()
    side = network.backbone.pretrained_cfg["input_size"][-1]
    assert (network.size, network.start_size) == (side, side)
    assert network(torch.rand(2, 3, 12, 12)).shape == (2, 3)


def test_graph_gives_the_softmax_of_the_scaled_logits(exported_cnn, colours):
    outputs = torch_outputs(exported_cnn.graph, colours.test.images, ("probabilities",))
    logits = predict(exported_cnn.graph.network, colours.test.images)
    np.testing.assert_allclose(outputs["probabilities"], softmax(logits / 1.7), atol=1e-6)


def test_graph_of_a_network_without_state_in_training_mode_is_evaluated(tiny_cnn, colours, tmp_path):
    # Batch normalisation in training mode would make a row depend on its batch.
    graph = ClassifierGraph(tiny_cnn().train(), Scaling())
    export(
        graph,
        colours.test.images,
        tmp_path / "m.onnx",
        input_name="images",
        output_names=("probabilities",),
        max_batch=7,
        card=GoldenCard(rows=1, atol=1e-4),
    )
    session = Session(tmp_path / "m.onnx", "cpu")
    whole = session.run({"images": colours.test.images[:7]})[0]
    alone = session.run({"images": colours.test.images[3:4]})[0]
    np.testing.assert_allclose(alone[0], whole[3], atol=1e-5)
