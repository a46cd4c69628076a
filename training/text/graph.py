"""The whole graph of a text classifier: token ids in, calibrated probabilities out."""

import torch
from torch import Tensor, nn

from training.export.calibration import Scaling


class TextGraph(nn.Module):
    """int64 token ids (batch, length; 0 is padding at the end) to probabilities (batch, classes).

    Args:
        network: returns logits.
        scaling: of the logits, before the softmax.
        linear: returns decision values, which are added to the logits; None for the network alone.
        weight: of the decision values.
    """

    def __init__(
        self, network: nn.Module, scaling: Scaling, linear: nn.Module | None = None, weight: float = 0.0
    ) -> None:
        super().__init__()
        self.network = network
        self.scaling = scaling
        self.linear = linear if weight else None
        self.weight = weight

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.network(ids)
        if self.linear is not None:
            logits = logits + self.weight * self.linear(ids)
        return torch.softmax(self.scaling(logits), dim=1)
