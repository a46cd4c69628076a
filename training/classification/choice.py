"""Which network suits a data set of labelled images, and how it is trained."""

import dataclasses

import numpy as np

from training.backbones.cnn import stride_for
from training.backbones.registry import check_backbone
from training.classification.options import DEFAULTS, Arch, ClassificationOptions, NetworkSettings
from training.data.augment import Augment, PhotoAugment
from training.data.images import ImageData
from training.engine.settings import FitSettings
from training.options import override

# Smaller images are enlarged by less, and augmented as small ones.
SMALL = 64
# Still smaller ones show nothing that a network of photographs would know.
TINY = 24
# Fewer small colour images than this are not enough for a network of their own.
FEW = 5000
# The side of the last crops in training, of the side of the images that are evaluated.
CROP = 6 / 7
# Groups of layers that learn nothing new of photographs; training the others alone takes half the time.
FROZEN = 3
# With fewer photographs the head alone is trained: fine-tuning of 195 was less accurate on test than the baseline.
FEW_PHOTOGRAPHS = 500
# Of photographs: images in a training by default, and the least and the most epochs.
SEEN, EPOCHS = 10_000, (4, 15)
# From so many epochs on, photographs are augmented more.
LONG = 30
# The classes are unbalanced if the largest has so many times the images of the smallest.
UNBALANCED = 10

PHOTOGRAPHS = FitSettings(
    epochs=10, batch_size=128, optimizer="adamw", lr=1e-3, backbone_lr=1e-3, weight_decay=0.02, ema=0.99, warmup=0.1
)


def is_photographs(data: ImageData) -> bool:
    """Whether the images are treated as photographs: over 64 pixels on their shorter side."""
    return min(data.shape[:2]) > SMALL


def choose(options: ClassificationOptions, data: ImageData) -> tuple[ClassificationOptions, str]:
    """The options with the network that suits the data, and why it was chosen: empty if the options say which."""
    network, because = options.network, ""
    arch = options.implied_arch()
    if arch is None:
        arch, because = _arch_for(network, data)
    photographs = is_photographs(data)
    if arch == "transfer":
        size = network.network_size if network.network_size is not None else 224 if photographs else 128
        start = network.start_size if network.start_size is not None else 176 if photographs else 64
        pretrained = photographs and network.weights != "none"
        freeze = network.freeze
        if freeze is None:
            few = len(data.train) < FEW_PHOTOGRAPHS and options.fit.backbone_lr is None and not options.init_from
            freeze = (-1 if few else FROZEN) if pretrained else 0
        network = dataclasses.replace(
            network,
            network_size=size,
            start_size=start,
            freeze=freeze,
            freeze_norms=network.freeze_norms or pretrained,
        )
    return dataclasses.replace(options, network=dataclasses.replace(network, arch=arch)), because


def _arch_for(network: NetworkSettings, data: ImageData) -> tuple[Arch, str]:
    height, width, channels = data.shape
    few = channels == 3 and min(height, width) >= TINY and len(data.train) < FEW
    if is_photographs(data):
        tall, wide = data.original or (height, width)
        if min(tall, wide) > SMALL:
            because = f"the images have {'about ' if data.original else ''}{wide} x {tall} pixels"
        else:
            because = f"the images are enlarged to {width} x {height} pixels"
    elif few:
        because = f"{len(data.train):,} images are few"
    else:
        return "cnn", f"the images are small ({height} x {width})"
    try:
        check_backbone(network.backbone, network.weights)
    except ValueError as error:
        return "cnn", f"{because}, but there are no pretrained weights ({error})"
    return "transfer", because


def fit_settings(options: ClassificationOptions, data: ImageData) -> FitSettings:
    """How the chosen network is trained: its defaults for this data, with what the options say.

    It ends early after half the epochs without a better score, at least five.
    """
    settings = override(fit_defaults(options.network.arch, data, options.fit.batch_size), options.fit)
    if options.fit.patience is None:
        settings = dataclasses.replace(settings, patience=max(5, settings.epochs // 2))
    return settings


def fit_defaults(arch: str, data: ImageData, batch_size: int | None = None) -> FitSettings:
    """The architecture's defaults, with batches of `batch_size`, or smaller ones if images are large or few.

    The learning rate is scaled with the batch size: linearly for SGD (Goyal et al. 2017, arXiv:1706.02677), by the
    square root for Adam (Malladi et al. 2022, arXiv:2205.10287).
    """
    settings: FitSettings = DEFAULTS[arch]  # type: ignore[index] # it was chosen: not auto
    if arch == "transfer" and is_photographs(data):
        least, most_epochs = EPOCHS
        epochs = min(max(round(SEEN / len(data.train)), least), most_epochs)
        settings = dataclasses.replace(PHOTOGRAPHS, epochs=epochs)
    height, width, _ = data.shape
    # No more memory than batches of the usual size take at this side in pixels; at least twenty steps per epoch.
    side = 48 * stride_for(height, width) ** 0.5 if arch == "cnn" else 128
    most = min(int(settings.batch_size * side**2) // (height * width), len(data.train) // 20)
    batch_size = batch_size or max(16, min(settings.batch_size, most))
    ratio = batch_size / settings.batch_size
    factor = ratio if settings.optimizer == "sgd" else ratio**0.5
    backbone_lr = settings.backbone_lr and settings.backbone_lr * factor
    return dataclasses.replace(settings, batch_size=batch_size, lr=settings.lr * factor, backbone_lr=backbone_lr)


def augmentation(options: ClassificationOptions, data: ImageData, epochs: int) -> Augment | PhotoAugment:
    """How the images are augmented for the chosen network."""
    given, arch = options.augment, options.network.arch
    kind = given.augment
    if kind == "auto":
        kind = "small"
        if is_photographs(data) and arch != "mlp" and not given.cutout:
            kind = "trivial" if epochs >= LONG else "crop"
    if kind == "small":
        default = Augment(cutout=0, translate=2) if arch == "mlp" else Augment()
        # An option gives pixels of these very images; the defaults are for small ones.
        return override(default.scaled_to(data.shape), given)
    mixed = 0.25 if epochs >= LONG else 0.0
    return override(PhotoAugment(trivial=kind == "trivial", cutmix=mixed, mixup=mixed), given)


def class_weights(options: ClassificationOptions, data: ImageData) -> tuple[float, ...]:
    """The weight of each class in the loss, 1 on average over the images; empty if all have the same.

    The square root of the inverse frequency: between the accuracy over all images and that over all classes.
    """
    counts = np.bincount(data.train.labels, minlength=len(data.classes)).clip(1)
    kind = options.loss.class_weights
    if kind == "none" or (kind == "auto" and counts.max() < UNBALANCED * counts.min()):
        return ()
    weights = counts**-0.5
    weights *= counts.sum() / (weights * counts).sum()
    return tuple(round(float(weight), 4) for weight in weights)
