"""Interpolation between the initial and the final weights of a training (Wortsman et al. 2022, arXiv:2109.01903)."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

WEIGHTS = tuple(step / 10 for step in range(1, 11))


def interpolate(model: nn.Module, start: Mapping[str, Tensor], score: Callable[[nn.Module], float]) -> float:
    """Moves the weights of a network to the best point between `start` and where they are.

    Args:
        model: the trained network, on the CPU; modified in place.
        start: the state dict that its training began with.
        score: of a network on the selection items; higher is better.

    Returns:
        The weight of the trained end: one of `WEIGHTS`; 1 leaves the model as it was.
    """
    end = {name: value.clone() for name, value in model.state_dict().items()}

    def move(weight: float) -> nn.Module:
        model.load_state_dict(
            {n: torch.lerp(start[n], v, weight) if v.is_floating_point() else v for n, v in end.items()}
        )
        return model

    best = WEIGHTS[int(np.argmax([score(move(weight)) for weight in WEIGHTS]))]
    move(best)
    return best
