"""A dense network on rows of numbers, with all that their preparation needs inside."""

import torch
from torch import Tensor, nn

from training.tabular.data import Floats


class TabularNetwork(nn.Module):
    """Standardised columns, missing values in their place, dense layers.

    Args:
        rows: of the training split, float32, shape (n, columns), NaN where a value is missing: their means stand for
            what is missing, their deviations scale.
        outputs: numbers that are told: one a class, or one.
        hidden: units of each hidden layer.
        dropout: the share of them that is dropped in training.
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
        # A column that never varies, as far as float32 tells, must not divide by zero, nor make a flood of a trace.
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
        # Far outside of the training's range a network knows nothing; there it shall at least not explode.
        return self.body(torch.where(rows.isnan(), torch.zeros_like(standard), standard).clamp(-10, 10))


class TabularGraph(nn.Module):
    """The whole graph: rows in; calibrated probabilities (batch, classes), or values (batch, 1), out.

    Args:
        network: see `TabularNetwork`.
        temperature: of the probabilities.
        scale: mean and deviation of the target where it is a number; None for classes.
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
