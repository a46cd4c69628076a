"""The scaling of logits as a layer of a network that is exported."""

import torch
from torch import Tensor, nn

from training.export.calibration import Scaling


class ScalingLayer(nn.Module):
    """Logits of calibrated probabilities, shape (n, classes), of a network's logits of that shape; see `Scaling`."""

    def __init__(self, fitted: Scaling) -> None:
        super().__init__()
        self.fitted = fitted

    def forward(self, logits: Tensor) -> Tensor:
        temperature, exponent = self.fitted.temperature, self.fitted.exponent
        if exponent == 1:
            return logits / temperature
        # Rounding may make the logarithm positive, and a power of that is not a number.
        return -((torch.log_softmax(logits, dim=1).abs() / temperature) ** exponent)
