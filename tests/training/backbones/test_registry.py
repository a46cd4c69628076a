import copy

import pytest
import torch
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
    """Its forward pass is more than its children in order."""

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
        (f"{HERE}:Skipping", 6, {2}),
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
        ("torchvision:resnet18", "package", "in no package"),
        ("quartet:mlp", "none", "there is quartet:cnn alone"),
        ("quartet:cnn", "hub", "has no pretrained weights"),
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
