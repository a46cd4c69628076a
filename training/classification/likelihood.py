"""How well a classifier's weights predict images, whatever the temperature."""

import torch
import torch.nn.functional as F
from torch import nn

from training.classification.labels import predict
from training.data.images import ImageSplit
from training.export.calibration import fit_temperature


def log_likelihood(model: nn.Module, images: ImageSplit, *, mirror: bool = False) -> float:
    """The mean log-likelihood of the labels of a split, after temperature scaling.

    Args:
        model: a network on the CPU.
        images: with their labels.
        mirror: whether it averages over an image and its mirror image.
    """
    logits = predict(model, images.images, mirror=mirror)
    scaled = torch.from_numpy(logits) / fit_temperature(logits, images.labels)
    return -F.cross_entropy(scaled, torch.from_numpy(images.labels)).item()
