"""Interpolation between the initial and the final weights of a training (Wortsman et al. 2022, arXiv:2109.01903).

Both lie in the same basin of the loss, and a point between them often generalises better than either end.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

SHARES = tuple(step / 10 for step in range(1, 11))


def interpolate(model: nn.Module, start: Mapping[str, Tensor], score: Callable[[nn.Module], float]) -> float:
    """Moves a network's weights to the best point between `start` and where they are.

    Args:
        model: the trained network, on the CPU; modified in place.
        start: the state dict that its training began with.
        score: of a network on the items that choose; the highest is the best.

    Returns:
        The weight of the trained end: one of `SHARES`; 1 leaves the model as it was.
    """
    end = {name: value.clone() for name, value in model.state_dict().items()}
    scores = []
    for share in SHARES:
        model.load_state_dict(_between(start, end, share))
        scores.append(score(model))
    best = SHARES[int(np.argmax(scores))]
    model.load_state_dict(_between(start, end, best))
    return best


def _between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    return {
        name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }
