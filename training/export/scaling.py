"""What makes calibrated probabilities of a classifier's logits: a temperature and, where it helps, an exponent."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.model_selection import KFold
from torch import Tensor

from training.export.calibrate import Floats, Ints, fit_temperature, minimise, softmax

_FOLDS = 5
# With fewer items there is nothing that folds could tell.
_FEWEST = 50
# No probability is so close to 1 that its logarithm has no gradient.
_CLOSEST = 1e-12


@dataclass(frozen=True, slots=True)
class Scaling:
    """Probabilities proportional to exp(-(-log p / temperature) ** exponent), p being the softmax of the logits.

    With the exponent 1 it is temperature scaling (Guo et al. 2017, arXiv:1706.04599). A temperature changes all
    confidences in the same direction; an exponent above 1 makes the high ones higher and those in the middle lower.
    Both keep the order of the classes, since they map each log-probability by the same increasing function (the
    diagonal intra order-preserving functions of Rahimi et al. 2020, arXiv:2003.06820).

    Attributes:
        temperature: positive.
        exponent: positive.
    """

    temperature: float = 1.0
    exponent: float = 1.0

    @classmethod
    def of(cls, calibration: Any) -> Self:
        """That of a manifest's `service.tasks.cards.Calibration`."""
        return cls(calibration.temperature, calibration.exponent)

    def scale(self, logits: Tensor) -> Tensor:
        """Logits of the calibrated probabilities, shape (n, classes), of a network's of that shape."""
        if self.exponent == 1:
            return logits / self.temperature
        # The logarithm is never positive; rounding may think otherwise, and a power of that is not a number.
        return -((torch.log_softmax(logits, dim=1).abs() / self.temperature) ** self.exponent)

    def probabilities(self, logits: Floats) -> Floats:
        """Calibrated probabilities, shape (n, classes), of a network's logits of that shape."""
        return softmax(self.scale(torch.from_numpy(np.asarray(logits, dtype=np.float32))).numpy())


def fit_scaling(logits: Floats, labels: Ints) -> Scaling:
    """The scaling of least negative log-likelihood.

    It has an exponent if, in cross-validation, that lowers the negative log-likelihood of items that it was not fitted
    on by more than one standard error of the difference.

    Args:
        logits: of items that did not train the network, shape (n, classes).
        labels: shape (n,).
    """
    if len(labels) >= _FEWEST:
        gains = np.concatenate([
            _losses(Scaling(fit_temperature(logits[rest], labels[rest])), logits[fold], labels[fold])
            - _losses(_fit_both(logits[rest], labels[rest]), logits[fold], labels[fold])
            for rest, fold in KFold(_FOLDS, shuffle=True, random_state=0).split(labels)
        ])  # fmt: skip
        if gains.mean() > gains.std() / np.sqrt(len(gains)):
            return _fit_both(logits, labels)
    return Scaling(fit_temperature(logits, labels))


def _fit_both(logits: Floats, labels: Ints) -> Scaling:
    surprise = -torch.log_softmax(torch.from_numpy(logits).double(), dim=1).clamp_max(-_CLOSEST)
    target = torch.from_numpy(labels)
    start = torch.tensor([np.log(fit_temperature(logits, labels)), 0.0], dtype=torch.float64)
    # Smoothed as in `fit_temperature`.
    smoothing = 1 / (len(target) + 1)

    def loss(parameters: Tensor) -> Tensor:
        temperature, exponent = parameters.exp()
        return F.cross_entropy(-((surprise / temperature) ** exponent), target, label_smoothing=smoothing)

    temperature, exponent = minimise(loss, start).exp()
    return Scaling(float(temperature.clamp(0.05, 20)), float(exponent.clamp(0.25, 4)))


def _losses(scaling: Scaling, logits: Floats, labels: Ints) -> npt.NDArray[np.float64]:
    scaled = scaling.scale(torch.from_numpy(logits).double())
    return F.cross_entropy(scaled, torch.from_numpy(labels), reduction="none").numpy()
