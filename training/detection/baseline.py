"""The baseline of a detector: linear models of single cells of the frozen feature maps of its backbone."""

import copy
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor, nn

from service.tasks.detection.manifest import Suppression
from training.baseline import Baseline
from training.data.augment import to_pixels
from training.detection.data import DetectionData, DetectionSplit, FloatArray, IntArray
from training.detection.evaluation import EVALUATION_BATCH, average_precision
from training.detection.learner import detect
from training.detection.network import BINS, STRIDES, CellNetwork, Detector

# Enough for linear models, in seconds.
_MOST_IMAGES, _MOST_CELLS, _ITERATIONS = 160, 8_000, 100
# Cells of the background that are taken of each image.
_BACKGROUND_CELLS = 40
# An object is found in the feature map in which it is about this many cells wide and high, by the cells in its middle.
_CELLS_ACROSS, _MIDDLE = 4, 0.5
# Inverse strength of the penalty on the weights of classes, and the penalty on those of edges.
_C, _ALPHA = 1e-3, 1e3
# The logit of a class without a training cell, which is never found.
_ABSENT = -20.0


def fit_baseline(network: Detector, data: DetectionData, suppression: Suppression, backbone: str) -> Baseline:
    """Fits a `CellModel` on some of the training images; `network` stays as it is."""
    with_objects = np.flatnonzero([len(labels) for labels in data.train.labels])
    chosen = np.random.default_rng(0).permutation(with_objects)[:_MOST_IMAGES]
    model = CellModel(network, len(data.classes)).fit(data.train, chosen)

    def measure(split: DetectionSplit) -> float:
        return average_precision(detect(model, split, suppression), split, data.classes).map

    return Baseline(
        name=f"linear models of cells of frozen feature maps of {backbone}",
        figure="map",
        validation=measure(data.choice),
        items=len(chosen),
        test=lambda: measure(data.test),
    )


class CellModel(CellNetwork):
    """Finds objects with linear models of single cells, with the outputs of a `Detector`.

    Logistic regression gives the class, and ridge regression the logarithms of the distances to the edges. A cell is
    described by all feature maps at its place.

    Args:
        network: whose backbone is copied.
    """

    def __init__(self, network: Detector, classes: int) -> None:
        super().__init__()
        self.size, self._classes = network.size, classes
        self._network = copy.deepcopy(network).eval().requires_grad_(False)
        features = sum(each.shape[1] for each in self._network.features(torch.zeros(1, 3, *self.size)))
        # Of the classes, the background last, and of the edges.
        self._class, self._edges = nn.Linear(features, classes + 1), nn.Linear(features, 4)

    @torch.no_grad()
    def fit(self, split: DetectionSplit, items: IntArray) -> "CellModel":
        """Fits the models on the images of a split at these indices."""
        rng, parts = np.random.default_rng(0), []
        for start in range(0, len(items), EVALUATION_BATCH):
            batch = items[start : start + EVALUATION_BATCH]
            described = self._describe(to_pixels(torch.from_numpy(split.images[batch]))).numpy()
            for index, features in zip(batch.tolist(), described, strict=True):
                labels, distances = self.targets(split, index)
                objects, empty = np.flatnonzero(labels < self._classes), np.flatnonzero(labels == self._classes)
                rows = np.concatenate((objects, rng.permutation(empty)[:_BACKGROUND_CELLS]))
                parts.append((features[rows], labels[rows], distances[rows]))
        features, labels, distances = (np.concatenate(each) for each in zip(*parts, strict=True))
        some = rng.permutation(len(labels))[:_MOST_CELLS]
        features, labels, distances = features[some], labels[some], distances[some]
        mean, std = features.mean(0), features.std(0) + 1e-6
        features = (features - mean) / std
        weight = np.zeros((self._classes + 1, features.shape[1]))
        bias = np.full(self._classes + 1, _ABSENT)
        if len(known := np.unique(labels)) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # close enough
                model = LogisticRegression(C=_C, max_iter=_ITERATIONS).fit(features, labels)
            # Of two classes it has the weights of the second alone.
            both = len(known) == 2
            weight[known] = np.concatenate((0 * model.coef_, model.coef_)) if both else model.coef_
            bias[known] = np.concatenate((0 * model.intercept_, model.intercept_)) if both else model.intercept_
        else:
            bias[known] = 0
        found = labels < self._classes
        edges = Ridge(_ALPHA).fit(features[found], np.log(distances[found]))
        for layer, weights, biases in ((self._class, weight, bias), (self._edges, edges.coef_, edges.intercept_)):
            layer.weight.copy_(torch.from_numpy(weights / std))
            layer.bias.copy_(torch.from_numpy(biases - weights / std @ mean))
        return self

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = self._describe(pixels)
        scores = self._class(features).softmax(-1)[..., :-1]
        return scores.logit(1e-6), distributions(self._edges(features).exp())

    def _describe(self, pixels: Tensor) -> Tensor:
        """The features of each cell, shape (batch, cells, features)."""
        maps = self._network.features(pixels)
        cells = []
        for level in maps:
            size = (level.shape[2], level.shape[3])
            resized = [
                F.adaptive_avg_pool2d(each, size) if each.shape[2] > size[0] else F.interpolate(each, size)
                for each in maps
            ]
            cells.append(torch.cat(resized, 1).flatten(2).transpose(1, 2))
        return torch.cat(cells, 1)

    def targets(self, split: DetectionSplit, index: int) -> tuple[IntArray, FloatArray]:
        """Of each cell of an image the class (the number of classes for the background), and distances in strides."""
        points, strides = self._network.points.numpy(), self._network.strides.numpy()
        labels, distances = np.full(len(points), self._classes), np.ones((len(points), 4), np.float32)
        for box, label in zip(split.fitted_boxes(index), split.labels[index], strict=True):
            middle, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            stride = min(STRIDES, key=lambda each: abs(np.log(sides.prod() ** 0.5 / (each * _CELLS_ACROSS))))
            off = np.abs(points - middle) / np.maximum(_MIDDLE / 2 * sides, stride / 2)
            mine = (strides[:, 0] == stride) & (off.max(1) <= 1)
            labels[mine] = label
            edges = np.concatenate((points[mine] - box[:2], box[2:] - points[mine]), 1) / stride
            distances[mine] = edges.clip(0.05, BINS - 1)
        return labels, distances


def distributions(distances: Tensor) -> Tensor:
    """Box logits with these means, in strides: shape (..., 4) to (..., 4 * BINS). Each has the two bins around it."""
    bins = torch.arange(BINS, device=distances.device)
    return (1 - (distances.clamp(0, BINS - 1)[..., None] - bins).abs()).clamp_min(1e-12).log().flatten(-2)
