"""The three image classifiers that the recipe offers: how each is built, and how it is trained by default."""

from dataclasses import replace

import torch
from torch import nn

from training.backbones.cnn import CNN, Normalize, sample, stride_for
from training.backbones.registry import load_backbone
from training.classification.learner import ClassificationSettings
from training.classification.network import MLP, Transfer
from training.classification.options import DEFAULTS, Arch, ClassificationOptions, NetworkSettings
from training.data.augment import Augment, to_pixels
from training.data.images import ImageData
from training.engine.settings import FitSettings
from training.options import override


def build(network: NetworkSettings, data: ImageData, seed: int) -> nn.Module:
    """The network, its weights initialised from `seed` and from the training split."""
    torch.manual_seed(seed)
    classes = len(data.classes)
    if network.arch == "mlp":
        return MLP(Normalize.of(data.train), data.shape, classes, network.dropout)
    if network.arch == "cnn":
        cnn = CNN(Normalize.of(data.train), data.shape, classes, network.widths, network.depth, network.dropout)
        cnn.init_whiten(to_pixels(torch.from_numpy(sample(data.train))))
        return cnn
    backbone = load_backbone(network.backbone, network.weights)
    size, start_size = network.network_size, network.start_size
    if size <= max(data.shape[:2]):
        size = 0
    if backbone.size:
        size = start_size = backbone.size
    return Transfer(backbone, size, classes, network.dropout, network.freeze, start_size, network.freeze_norms)


def learning_settings(options: ClassificationOptions, shape: tuple[int, ...]) -> ClassificationSettings:
    """Loss and augmentation for images of this shape (height, width, channels)."""
    default = Augment(cutout=0, translate=2) if options.network.arch == "mlp" else Augment()
    # An option gives pixels of these very images; the defaults are for small ones.
    augment = override(default.scaled_to(shape), options.augment)
    return override(ClassificationSettings(augment=augment), options.loss)


def fit_defaults(arch: Arch, data: ImageData, batch_size: int | None = None) -> FitSettings:
    """The architecture's defaults, with batches of `batch_size`, or smaller ones if images are large or few.

    The learning rate is scaled with the batch size: linearly for SGD (Goyal et al. 2017, arXiv:1706.02677), by the
    square root for Adam (Malladi et al. 2022, arXiv:2205.10287).
    """
    settings = DEFAULTS[arch]
    height, width, _ = data.shape
    # No more memory than batches of the usual size take at this side in pixels; at least twenty steps per epoch.
    side = 48 * stride_for(height, width) ** 0.5 if arch == "cnn" else 128
    most = min(int(settings.batch_size * side**2) // (height * width), len(data.train) // 20)
    batch_size = batch_size or max(16, min(settings.batch_size, most))
    ratio = batch_size / settings.batch_size
    factor = ratio if settings.optimizer == "sgd" else ratio**0.5
    backbone_lr = settings.backbone_lr and settings.backbone_lr * factor
    return replace(settings, batch_size=batch_size, lr=settings.lr * factor, backbone_lr=backbone_lr)
