"""The baseline of an image classifier: logistic regression on the features of a pretrained network."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from training.backbones.registry import check_backbone, load_backbone
from training.baseline import Baseline
from training.classification.choice import TINY, class_weights, is_photographs
from training.classification.features import Floats, Linear, extract, fit_linear
from training.classification.learner import predict
from training.classification.network import Transfer
from training.classification.options import ClassificationOptions, NetworkSettings
from training.data.dataset import stratified_sample
from training.data.images import ImageData, ImageSplit
from training.data.splits import selection_of
from training.run import Run

# The most training images of it; images are used mirrored too if there are no more than `MIRRORED`.
MOST, MIRRORED = 3000, 500
# Of a network that is not pretrained: training, validation and test images, and the side that they are enlarged to.
SAMPLE, SIDE = (1500, 750, 1500), 96


def fit_baseline(run: Run[ClassificationOptions, ImageData], network: nn.Module) -> Baseline:
    """Fits the baseline; a network that is fine-tuned from pretrained weights starts with it as its head."""
    pretrained = run.options.network.weights != "none" and not run.options.init_from
    if isinstance(network, Transfer) and pretrained:
        return _of_own_features(run, network)
    return _of_sample(run)


def views_of(options: ClassificationOptions, data: ImageData) -> int:
    """How many views of each image are used: 2 if it is mirrored too, 1 otherwise."""
    return 2 if options.augment.flip and (options.network.freeze == -1 or len(data.train) <= MIRRORED) else 1


def fitted_images(options: ClassificationOptions, data: ImageData) -> int:
    """How many images the baseline looks at before the training."""
    most, validation, _ = SAMPLE
    if options.network.arch == "transfer":
        return min(len(data.train), MOST) * views_of(options, data) + len(data.division[0])
    return min(len(data.train), most) + min(len(data.division[0]), validation)


def features_of(run: Run[Any, ImageData], network: Transfer, part: str, split: ImageSplit, views: int = 1) -> Floats:
    """The features of a part of the data, kept in the folder of the run; shape (views, n, features)."""
    seen = f"{run.data.fingerprint} {part}"
    return extract(network, split.images, run.folder, seen, run.accelerator, views=views)


def _of_own_features(run: Run[ClassificationOptions, ImageData], network: Transfer) -> Baseline:
    data, options = run.data, run.options
    weights = class_weights(options, data)
    network.to(run.accelerator.device).to(memory_format=torch.channels_last)
    views = views_of(options, data)
    train, part = _sampled(data.train, MOST, run.settings.seed)
    features = features_of(run, network, f"train {part}", train, views)
    chosen = selection_of(data).validation
    validation = features_of(run, network, "selection", chosen)[0]
    linear = fit_linear(features, train.labels, validation, chosen.labels, len(data.classes), weights)
    _set_head(network, linear)
    # The network is trained before the baseline is measured on test.
    frozen = copy.deepcopy(network)
    return Baseline(
        name=f"logistic regression on frozen features of {options.network.backbone}",
        figure="accuracy",
        validation=linear.accuracy(validation, chosen.labels),
        items=len(train),
        # In the precision of exported graphs: with rounded features a few labels differ.
        test=lambda: float((predict(frozen, data.test.images).argmax(1) == data.test.labels).mean()),
        starts=True,
    )


def _of_sample(run: Run[ClassificationOptions, ImageData]) -> Baseline:
    data, seed = run.data, run.settings.seed
    counts = zip((data.train, selection_of(data).validation, data.test), SAMPLE, strict=True)
    (train, part), (validation, _), (test, _) = (_sampled(split, most, seed) for split, most in counts)
    read, of = _reader(run)
    weights = class_weights(run.options, data)
    features, chosen = read(f"train {part}", train), read("selection", validation)
    linear = fit_linear(features[None], train.labels, chosen, validation.labels, len(data.classes), weights)
    return Baseline(
        name=f"logistic regression on {of}",
        figure="accuracy",
        validation=linear.accuracy(chosen, validation.labels),
        items=len(train),
        test=lambda: linear.accuracy(read("test", test), test.labels),
    )


def _reader(run: Run[Any, ImageData]) -> tuple[Callable[[str, ImageSplit], Floats], str]:
    """What gives the features of images, shape (n, features), and what these are: of a network, or pixels without."""
    settings, data = NetworkSettings(), run.data
    try:
        check_backbone(settings.backbone, settings.weights)
        suits = min(data.shape[:2]) >= TINY
    except ValueError:
        suits = False
    if not suits:
        return lambda _, split: split.images[:].reshape(len(split), -1) / np.float32(255), "pixels"
    side = 128 if is_photographs(data) else SIDE
    network = Transfer(load_backbone(settings.backbone, settings.weights), side, 1)
    network.to(run.accelerator.device).to(memory_format=torch.channels_last)
    return (
        lambda part, split: features_of(run, network, f"{part} {len(split)}", split)[0],
        f"features of {settings.backbone} at {side} pixels",
    )


def _sampled(split: ImageSplit, most: int, seed: int) -> tuple[ImageSplit, str]:
    """Up to `most` images of a split, about the same fraction of every class, and what identifies them."""
    if len(split) <= most:
        return split, "all"
    return split.take(np.sort(stratified_sample(split.labels, most, seed))), f"{most} by {seed}"


@torch.no_grad()
def _set_head(network: Transfer, linear: Linear) -> None:
    network.head.weight.copy_(torch.from_numpy(linear.weight))
    network.head.bias.copy_(torch.from_numpy(linear.bias))
