"""What a frozen network makes of images: the input of its head, and a linear classifier on it."""

import hashlib
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from training.classification.learner import predict
from training.classification.network import Transfer
from training.data.lazy import Images
from training.engine.atomic import replacing
from training.export.calibration import fit_temperature

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# Inverse strengths of the penalty that are tried, for standardised features.
PENALTIES = (1e-3, 1e-2, 1e-1)
# Fewer validation images do not tell them apart.
ENOUGH, FOLDS = 100, 5


class Features(nn.Module):
    """The features of a network, of the images or of their mirror images."""

    def __init__(self, network: Transfer, *, mirrored: bool = False) -> None:
        super().__init__()
        self.network, self.mirrored, self.size = network, mirrored, network.size

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.features(pixels.flip(3) if self.mirrored else pixels)


class Linear(NamedTuple):
    """Weight, shape (classes, features), and bias, shape (classes,), of a linear classifier."""

    weight: Floats
    bias: Floats

    def logits(self, features: Floats) -> Floats:
        return features @ self.weight.T + self.bias

    def accuracy(self, features: Floats, labels: Ints) -> float:
        return float((self.logits(features).argmax(1) == labels).mean())


def extract(
    network: Transfer,
    images: Images,
    folder: Path,
    seen: str,
    accelerator: Accelerator,
    *,
    views: int = 1,
) -> Floats:
    """The features of images, shape (views, n, features): as they are, and of two views also mirrored.

    Args:
        network: in evaluation mode afterwards.
        images: uint8, shape (n, height, width, channels).
        folder: keeps them for a resumed run.
        seen: identifies the images.
        accelerator: gives the precision.
        views: 1 or 2.
    """
    state = hashlib.sha256(f"{seen} {images.shape} {views} {network.size} {accelerator.mixed_precision}".encode())
    for value in network.backbone.state_dict().values():
        state.update(value.detach().cpu().numpy().tobytes())
    path = folder / f"features-{state.hexdigest()[:12]}.npz"
    if path.is_file():
        try:
            with path.open("rb") as file, np.load(file) as saved:
                found: Floats = saved["features"].astype(np.float32)
                return found
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            path.unlink()
    parts = [
        predict(Features(network, mirrored=bool(view)), images, accelerator, title="Features of the images")
        for view in range(views)
    ]
    features = np.stack(parts).astype(np.float16)
    with replacing(path) as partial, partial.open("wb") as written:
        np.savez(written, features=features)
    return features.astype(np.float32)


def fit_linear(
    features: Floats, labels: Ints, validation: Floats, truth: Ints, classes: int, weights: tuple[float, ...] = ()
) -> Linear:
    """Logistic regression; the likelihood of validation chooses its penalty, with few images that of cross-validation.

    Args:
        features: float32, shape (views, n, features).
        labels: shape (n,).
        validation: shape (m, features).
        truth: shape (m,).
        classes: how many there are.
        weights: of each class; all equal by default.
    """
    from sklearn.model_selection import StratifiedKFold  # takes a second

    def loss(penalty: float) -> float:
        if len(truth) >= ENOUGH:
            return _loss(_fit(features, labels, classes, weights, penalty).logits(validation), truth)
        logits = np.zeros((len(labels), classes), np.float32)
        for rest, fold in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(labels, labels):
            logits[fold] = _fit(features[:, rest], labels[rest], classes, weights, penalty).logits(features[0, fold])
        return _loss(logits, labels)

    sizes = np.unique(labels, return_counts=True)[1]
    enough = len(truth) >= ENOUGH or sizes.min() >= FOLDS
    return _fit(features, labels, classes, weights, min(PENALTIES, key=loss) if enough else PENALTIES[-1])


def _fit(features: Floats, labels: Ints, classes: int, weights: tuple[float, ...], penalty: float) -> Linear:
    from sklearn.linear_model import LogisticRegression

    flat = features.reshape(-1, features.shape[2])
    mean, std = flat.mean(0), flat.std(0).clip(1e-6)
    by_class = dict(enumerate(weights)) if weights else None
    model = LogisticRegression(C=penalty, max_iter=200, class_weight=by_class, tol=1e-3)
    model.fit((flat - mean) / std, np.tile(labels, len(features)))
    coefficients, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients, intercept = (np.concatenate((-part / 2, part / 2)) for part in (coefficients, intercept))
    # A class that the images lack is never predicted.
    weight = np.zeros((classes, flat.shape[1]), np.float32)
    bias = np.full(classes, intercept.min() - 20, np.float32)
    weight[model.classes_] = coefficients / std
    bias[model.classes_] = intercept - weight[model.classes_] @ mean
    return Linear(weight, bias)


def _loss(logits: Floats, truth: Ints) -> float:
    scaled = torch.from_numpy(logits) / fit_temperature(logits, truth)
    return nn.functional.cross_entropy(scaled, torch.from_numpy(truth)).item()
