"""The whole graph of an image classifier: pixels in, calibrated probabilities out."""

import torch
from torch import Tensor, nn

from training.classification.labels import mirrored
from training.data.augment import to_pixels
from training.export.calibration import Scaling


class ClassifierGraph(nn.Module):
    """uint8 pixels (batch, height, width, channels) to probabilities (batch, classes).

    Args:
        network: takes float pixels (batch, channels, height, width) in 0 to 1, returns logits.
        scaling: of the logits, before the softmax.
        flip: whether the logits are averaged over the image and its mirror image.
    """

    def __init__(self, network: nn.Module, scaling: Scaling, flip: bool = False) -> None:
        super().__init__()
        self.network = network
        self.scaling = scaling
        self.flip = flip

    def forward(self, images: Tensor) -> Tensor:
        pixels = to_pixels(images)
        logits = mirrored(self.network, pixels) if self.flip else self.network(pixels)
        return torch.softmax(self.scaling(logits), dim=1)
