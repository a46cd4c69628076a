"""Calibration of probabilities: temperature scaling, calibration error, split conformal thresholds."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.stats import betabinom
from sklearn.model_selection import KFold

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def softmax(logits: Floats) -> Floats:
    """Probabilities, shape (n, classes), of logits of that shape."""
    return torch.softmax(torch.from_numpy(np.asarray(logits, dtype=np.float32)), dim=1).numpy()


def logits_of(probabilities: Floats) -> Floats:
    """Logits that give these probabilities: those of the network up to a constant for each item."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature of least negative log-likelihood (Guo et al. 2017, arXiv:1706.04599).

    Labels are smoothed as if there were one more example, equally of every class: without that, a split without a
    misclassification would lead to a temperature of 0, and to certainty about everything.

    Args:
        logits: of the validation split, shape (n, classes).
        labels: shape (n,).
    """
    outputs, target = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    smoothing = 1 / (len(target) + 1)
    log_temperature = minimise(
        lambda value: F.cross_entropy(outputs / value.exp(), target, label_smoothing=smoothing),
        torch.zeros((), dtype=torch.float64),
    )
    return float(log_temperature.exp().clamp(0.05, 20))


def minimise(loss: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor) -> torch.Tensor:
    """The parameters of least loss, found from `start`."""
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(parameters)
        value.backward()
        return value

    optimizer.step(closure)
    return parameters.detach()


def expected_calibration_error(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """The mean difference between confidence and accuracy over `bins` equal-width bins, weighted by their size.

    Args:
        probabilities: shape (n, classes).
        labels: shape (n,).
        bins: the number of bins.
    """
    return float(sum(share * abs(confidence - accuracy) for share, confidence, accuracy in reliability(
        probabilities, labels, bins
    )))  # fmt: skip


def bin_of(confidence: Floats, bins: int = 15) -> Ints:
    """The index of the equal-width bin that each confidence lies in; the last bin holds 1.0 as well."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)


def reliability(probabilities: Floats, labels: Ints, bins: int = 15) -> list[tuple[float, float, float]]:
    """For each non-empty bin of confidence: its fraction of all items, mean confidence, accuracy."""
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    found = bin_of(confidence, bins)
    return [
        (float(inside.mean()), float(confidence[inside].mean()), float(correct[inside].mean()))
        for inside in (found == index for index in range(bins))
        if inside.any()
    ]


def conformal_threshold(probabilities: Floats, labels: Ints, coverage: float) -> float:
    """The lowest probability of a label in the prediction set, by split conformal prediction.

    The sets of labels with at least this probability are the smallest on average that contain the true label with
    probability `coverage` (Sadinle et al. 2019, arXiv:1609.00451).

    Args:
        probabilities: of the calibration split, shape (n, classes).
        labels: shape (n,).
        coverage: between 0 and 1.
    """
    scores = np.sort(probabilities[np.arange(len(labels)), labels])
    k = _rank(coverage, len(scores))
    return float(scores[k - 1]) if k >= 1 else 0.0


def expected_coverage(coverage: float, calibrated_on: int, tested_on: int) -> tuple[float, float]:
    """The 95 % range of the share of test items whose label has at least the threshold of `conformal_threshold`.

    It holds if calibration and test items are exchangeable and no two scores are equal: the share then has a
    beta-binomial distribution (Vovk 2012, arXiv:1209.2673).

    Args:
        coverage: that the threshold was fitted for.
        calibrated_on: how many items the threshold was fitted on.
        tested_on: how many test items there are.
    """
    k = _rank(coverage, calibrated_on)
    if k < 1:
        return 1.0, 1.0
    low, high = betabinom(tested_on, calibrated_on + 1 - k, k).interval(0.95)
    return float(low) / tested_on, float(high) / tested_on


def cross_fitting(count: int) -> list[tuple[Ints, Ints]]:
    """Divides so many items into ten random folds: for each, the indices of the other items and its own.

    There are fewer folds of fewer items, and none of a single one.
    """
    if count < 2:
        return []
    return list(KFold(min(10, count), shuffle=True, random_state=0).split(np.arange(count)))


def _rank(coverage: float, count: int) -> int:
    # All but the k - 1 lowest of the n scores pass; the + 1 counts the new example (the finite-sample correction).
    return math.floor((count + 1) * (1 - coverage) + 1e-9)
