"""The registry of backbones: one description for networks of timm, of torchvision, of this project, and of anybody.

A name is `timm:NAME` (or NAME alone), `torchvision:NAME`, `quartet:cnn`, or the import path `package.module:Name` of
what makes a `torch.nn.Module` when called without arguments. A provider is added to `PROVIDERS`.
"""

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.backbones.weights import load_weights, refuse_missing_file

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The side in pixels of the image that shows what a network returns.
_TRIAL = 128


@dataclass(frozen=True, slots=True)
class Stage:
    """A feature map that a backbone computes on the way to its features.

    Attributes:
        stride: pixels of the input per cell.
        channels: of each cell.
    """

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
    read: Callable[[nn.Module, Tensor, Sequence[int]], list[Tensor]]
    groups: Callable[[nn.Module], list[set[str]]]
    prune: Callable[[nn.Module, Sequence[int]], None] = lambda _module, _stages: None

    def stages_of(self, strides: Sequence[int]) -> list[int]:
        """The indices of the last stage of each stride.

        Raises:
            ValueError: it has no feature map of one of the strides.
        """
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
        for name, parameter in self.module.named_parameters():
            if name in early:
                parameter.requires_grad_(False)
        modules = []
        for path, module in self.module.named_modules():
            names = {f"{path}.{name}".lstrip(".") for name, _ in module.named_parameters()}
            if names and names <= early:
                modules.append(module)
        return modules


class Provider(Protocol):
    """A library of backbones: a module with these two functions."""

    def check(self, name: str, weights: str) -> None:
        """Finds out whether a backbone and its weights can be had, without loading them.

        Raises:
            ValueError: they cannot; says which can.
        """

    def load(self, name: str, weights: str) -> Backbone:
        """The backbone; its weights are from `hub`, from a `package`, `none` (random), or from a file.

        Raises:
            ValueError: no such network, no such weights, or weights of another network.
        """


# Imported when they are used: each takes seconds.
PROVIDERS = {
    "timm": "training.backbones.timm_models",
    "torchvision": "training.backbones.torchvision_models",
    "quartet": "training.backbones.cnn_backbone",
}


def check_backbone(name: str, weights: str) -> None:
    """See `Provider.check`; `name` as in the registry."""
    provider, rest = _provider(name)
    provider.check(rest, weights)


def load_backbone(name: str, weights: str) -> Backbone:
    """See `Provider.load`; `name` as in the registry."""
    provider, rest = _provider(name)
    return provider.load(rest, weights)


def _provider(name: str) -> tuple[Provider, str]:
    prefix, colon, rest = name.partition(":")
    if not colon:
        prefix, rest = "timm", name
    if prefix in PROVIDERS:
        provider: Provider = importlib.import_module(PROVIDERS[prefix])
        return provider, rest
    return _ByPath(), name


class _ByPath:
    """See `Provider`; of any network that can be imported."""

    def check(self, name: str, weights: str) -> None:
        self._find(name)
        if weights != "none":
            if weights in ("hub", "package"):
                raise ValueError(
                    f"--backbone {name} --weights {weights}: a network by import path takes none or a file"
                )
            refuse_missing_file(weights)

    def load(self, name: str, weights: str) -> Backbone:
        self.check(name, weights)
        module = self._find(name)()
        if not isinstance(module, nn.Module):
            raise ValueError(f"--backbone {name}: makes a {type(module).__name__}, not a torch.nn.Module")
        if weights != "none":
            load_weights(module, weights)
        mean, std = (
            tuple(getattr(module, key, usual)) for key, usual in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
        )
        try:
            return describe(module, mean, std)
        except ValueError as error:
            raise ValueError(f"--backbone {name}: {error}") from error

    def _find(self, name: str) -> Callable[[], nn.Module]:
        path, _, attribute = name.partition(":")
        try:
            found: Callable[[], nn.Module] = getattr(importlib.import_module(path), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            known = ", ".join(f"{prefix}:NAME" for prefix in PROVIDERS)
            raise ValueError(f"--backbone {name}: {error}; a backbone is {known} or package.module:Name") from error
        return found


def describe(module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], size: int = 0) -> Backbone:
    """Finds the features and the stages of a network by a trial.

    Its stages are its children, or those of its child `features`, as far as calling them one after the other gives
    what the network computes.

    Args:
        module: the network, without its head.
        mean: see `Backbone`.
        std: see `Backbone`.
        size: see `Backbone`.

    Raises:
        ValueError: what it returns is no features.
    """
    root = "features." if isinstance(getattr(module, "features", None), nn.Sequential) else ""
    paths = [f"{root}{name}" for name, _ in module.get_submodule(root.rstrip(".")).named_children()]
    outputs: dict[str, Tensor] = {}

    def remember(path: str) -> Callable[[nn.Module, object, Any], None]:
        # A copy, since the next layer may work in place.
        return lambda _module, _inputs, output: outputs.update({path: copy.deepcopy(output)})

    hooks = [module.get_submodule(path).register_forward_hook(remember(path)) for path in paths]
    side, was_training = size or _TRIAL, module.training
    module.eval()
    # Not from the global generator, which initialises the head after this.
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = module(pixels)
        for hook in hooks:
            hook.remove()
        if not isinstance(features, Tensor) or features.ndim not in (2, 4):
            shown = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f"returns {shown} for a batch; (batch, features) or (batch, features, rows, columns) fits")
        stages: list[tuple[str, Stage]] = []
        x = pixels
        for path in paths:
            expected = outputs.get(path)
            if (
                not isinstance(expected, Tensor)
                or expected.ndim != 4
                or side % (rows := expected.shape[2])
                or rows == 1
            ):
                break
            x = module.get_submodule(path)(x.clone())
            if x.shape != expected.shape or x.shape[2] != x.shape[3] or not torch.allclose(x, expected, atol=1e-4):
                break
            stages.append((path, Stage(side // x.shape[2], x.shape[1])))
    module.train(was_training)
    return Backbone(
        module, features.shape[1], mean, std, size, tuple(stage for _, stage in stages),
        _InOrder(tuple(path for path, _ in stages)), _Groups(tuple(paths)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _InOrder:
    """Reads feature maps by calling the submodules at these paths one after the other."""

    paths: tuple[str, ...]

    def __call__(self, module: nn.Module, pixels: Tensor, stages: Sequence[int]) -> list[Tensor]:
        maps, x = {}, pixels
        for index, path in enumerate(self.paths[: max(stages) + 1]):
            x = maps[index] = module.get_submodule(path)(x)
        return [maps[stage] for stage in stages]


@dataclass(frozen=True, slots=True)
class _Groups:
    """The parameters of each submodule at these paths, as far as it has any; the last group has those of no path."""

    paths: tuple[str, ...]

    def __call__(self, module: nn.Module) -> list[set[str]]:
        every = [name for name, _ in module.named_parameters()]
        groups = [{name for name in every if name.startswith(f"{path}.")} for path in self.paths]
        rest = set(every).difference(*groups)
        return [group for group in (*groups, rest) if group]
