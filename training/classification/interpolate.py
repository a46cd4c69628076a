"""Interpolation between the initial and the final weights of a training (Wortsman et al. 2022, arXiv:2109.01903).

Both lie in the same basin of the loss, and a point between them often generalises better than either end.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.calibrate import fit_temperature
from training.images import ImageSplit
from training.labels import predict

SHARES = tuple(step / 10 for step in range(1, 11))


def interpolate(
    model: nn.Module, start: Mapping[str, Tensor], validation: ImageSplit, *, mirror: bool = False
) -> float:
    """Moves a trained classifier's weights to the best point between `start` and where they are.

    The best point has the lowest negative log-likelihood on the validation split after temperature scaling.

    Args:
        model: the trained network, on the CPU; modified in place.
        start: the state dict that its training began with.
        validation: the images that choose.
        mirror: whether it will average over an image and its mirror image.

    Returns:
        The weight of the trained end: one of `SHARES`; 1 leaves the model as it was.
    """
    end = {name: value.clone() for name, value in model.state_dict().items()}
    losses = []
    for share in SHARES:
        model.load_state_dict(_between(start, end, share))
        logits = predict(model, validation.images, mirror=mirror)
        scaled = torch.from_numpy(logits) / fit_temperature(logits, validation.labels)
        losses.append(F.cross_entropy(scaled, torch.from_numpy(validation.labels)).item())
    best = SHARES[int(np.argmin(losses))]
    model.load_state_dict(_between(start, end, best))
    return best


def _between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    return {
        name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }
