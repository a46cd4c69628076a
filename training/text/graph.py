"""The whole graph of a text classifier: token ids in, calibrated probabilities out."""

import torch
from torch import Tensor, nn


class TextGraph(nn.Module):
    """int64 token ids (batch, length; 0 is padding at the end) to probabilities (batch, classes).

    Args:
        network: returns logits.
        temperature: the logits are divided by it before the softmax.
    """

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, ids: Tensor) -> Tensor:
        return torch.softmax(self.network(ids) / self.temperature, dim=1)
