"""A dense network on rows of numbers, with the preprocessing inside."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.tabular.data import Floats, TabularSplit


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What is trained.

    Attributes:
        hidden: units of each hidden layer.
        dropout: of the hidden units.
    """

    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.2


class TabularNetwork(nn.Module):
    """Standardised columns with missing values imputed, then dense layers.

    Args:
        rows: of the training split, float32, shape (n, columns), NaN where a value is missing: their means impute,
            their standard deviations scale.
        outputs: one for each class, or one for a number.
        hidden: units of each hidden layer.
        dropout: of the hidden units.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, rows: Floats, outputs: int, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        table = torch.from_numpy(rows).double()
        known = ~table.isnan()
        count = known.sum(0).clamp_min(1)
        mean = table.nan_to_num(0).sum(0) / count
        variance = ((table - mean).square().nan_to_num(0)).sum(0) / count
        self.register_buffer("mean", mean.float())
        # A column that is constant in float32 must not divide by zero, nor have its rounding errors blown up.
        varies = variance > (mean * 1e-7).square()
        self.register_buffer("std", torch.where(varies, variance.sqrt(), 1.0).float())
        layers: list[nn.Module] = []
        before = rows.shape[1]
        for width in hidden:
            layers += [nn.Linear(before, width), nn.SiLU(), nn.Dropout(dropout)]
            before = width
        self.body = nn.Sequential(*layers, nn.Linear(before, outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """Float rows (batch, columns), NaN where a value is missing, to (batch, outputs)."""
        standard = (rows - self.mean) / self.std
        # Far outside the training range the network knows nothing; there it should at least not explode.
        return self.body(torch.where(rows.isnan(), torch.zeros_like(standard), standard).clamp(-10, 10))


def build(network: NetworkSettings, train: TabularSplit, outputs: int, seed: int) -> TabularNetwork:
    """The network, with weights initialised from `seed` and standardisation from the training rows."""
    torch.manual_seed(seed)
    return TabularNetwork(train.rows, outputs, network.hidden, network.dropout)


class TabularGraph(nn.Module):
    """The whole graph: rows in; calibrated probabilities (batch, classes), or values (batch, 1), out.

    Args:
        network: see `TabularNetwork`.
        temperature: of the probabilities.
        scale: mean and standard deviation of a numeric target; None for classes.
    """

    def __init__(self, network: TabularNetwork, temperature: float, scale: tuple[float, float] | None) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.scale = scale

    def forward(self, rows: Tensor) -> Tensor:
        outputs = self.network(rows)
        if self.scale is None:
            return torch.softmax(outputs / self.temperature, dim=1)
        mean, deviation = self.scale
        return outputs * deviation + mean
