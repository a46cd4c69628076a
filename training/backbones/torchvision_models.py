"""Backbones of `torchvision`: its classifiers without their last layer."""

import difflib

from torch import nn
from torchvision import models

from training.backbones.registry import Backbone, describe
from training.backbones.weights import load_weights, refuse_missing_file


def check(name: str, weights: str) -> None:
    """See `training.backbones.registry.Provider`; `hub` is only found out when it is loaded."""
    known = models.list_models(module=models)
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 5, 0.5))
        raise ValueError(f"torchvision has no model {name!r}" + (f"; similar names: {near}" if near else ""))
    if weights == "package":
        raise ValueError(
            f"--backbone torchvision:{name}: its weights are in no package; --weights takes hub, none, a file"
        )
    if weights not in ("hub", "none"):
        refuse_missing_file(weights)


def load(name: str, weights: str) -> Backbone:
    """See `training.backbones.registry.Provider`."""
    check(name, weights)
    pretrained = models.get_model_weights(name).DEFAULT
    try:
        model: nn.Module = models.get_model(name, weights=pretrained if weights == "hub" else None)
    except OSError as error:
        raise ValueError(f"--backbone torchvision:{name} --weights hub: cannot be loaded: {error}") from error
    if weights not in ("hub", "none"):
        load_weights(model, weights)
    if hasattr(model, "aux_logits"):  # further classifiers, in training alone
        model.aux_logits = False  # type: ignore[assignment]
    last = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]
    for path in last:
        parent, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(parent), attribute, nn.Identity())
    transforms = pretrained.transforms()
    return describe(model, tuple(transforms.mean), tuple(transforms.std), int(getattr(model, "image_size", 0)))
