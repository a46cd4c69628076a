"""The project's CNN as a backbone, `quartet:cnn`: for photographs, without pretrained weights of its own."""

import torch

from training.backbones.cnn import CNN, Normalize
from training.backbones.registry import IMAGENET_MEAN, IMAGENET_STD, Backbone, describe
from training.backbones.weights import load_weights, refuse_missing_file

WIDTHS = (64, 128, 256, 256)


class CNNBackbone(torch.nn.Sequential):
    """Non-overlapping patches of two pixels, then groups of convolutions: strides of 4, 8, 16 and 32."""

    def __init__(self) -> None:
        cnn = CNN(Normalize(torch.zeros(3), torch.ones(3)), (128, 128, 3), 1, WIDTHS)
        cnn.whiten.requires_grad_(True)
        super().__init__(torch.nn.Sequential(cnn.whiten, torch.nn.SiLU()), *cnn.groups)


def check(name: str, weights: str) -> None:
    """See `training.backbones.registry.Provider`."""
    if name != "cnn":
        raise ValueError(f"--backbone quartet:{name}: there is quartet:cnn alone")
    if weights in ("hub", "package"):
        raise ValueError("--backbone quartet:cnn has no pretrained weights: --weights takes none or a file")
    if weights != "none":
        refuse_missing_file(weights)


def load(name: str, weights: str) -> Backbone:
    """See `training.backbones.registry.Provider`."""
    check(name, weights)
    module = CNNBackbone()
    if weights != "none":
        load_weights(module, weights)
    return describe(module, IMAGENET_MEAN, IMAGENET_STD)
