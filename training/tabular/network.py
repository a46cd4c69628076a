"""A dense network on the rows of a table, with the preprocessing inside."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from service.tasks.tabular.columns import ColumnCard
from training.tabular.data import TabularSplit
from training.tabular.encoding import Floats
from training.tabular.options import NetworkSettings

_YEAR = 365.2425
# The share of the known words that are taken for unknown in training.
_FORGOTTEN = 0.02


class TabularNetwork(nn.Module):
    """Columns as features, then dense layers.

    Numbers are standardised, with missing values imputed by the mean. A date becomes its standardised number of days,
    and where it is in the week and in the year (and in the day, if dates have times), as points on circles. A category
    becomes a learned vector for each of its words, one for all unknown words and one for a missing one (entity
    embeddings, Guo and Berkhahn 2016, arXiv:1604.06737).

    Args:
        layout: the columns, in the order of the rows.
        rows: of the training split, float32, shape (n, columns), NaN where a value is missing: their means impute,
            their standard deviations scale.
        outputs: one for each class, or one for a number.
        hidden: units of each hidden layer.
        dropout: of the hidden units.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, layout: Sequence[ColumnCard], rows: Floats, outputs: int, hidden: tuple[int, ...], dropout: float
    ) -> None:
        super().__init__()
        self.categories = [index for index, card in enumerate(layout) if card.kind == "category"]
        self.numbers = [index for index, card in enumerate(layout) if card.kind != "category"]
        self.dates = {index: _periods(card, rows[:, index]) for index, card in enumerate(layout) if card.kind == "date"}
        table = torch.from_numpy(rows[:, self.numbers]).double()
        known = ~table.isnan()
        count = known.sum(0).clamp_min(1)
        mean = table.nan_to_num(0).sum(0) / count
        variance = ((table - mean).square().nan_to_num(0)).sum(0) / count
        self.register_buffer("mean", mean.float())
        # A column that is constant in float32 must not divide by zero, nor have its rounding errors blown up.
        varies = variance > (mean * 1e-7).square()
        self.register_buffer("std", torch.where(varies, variance.sqrt(), 1.0).float())
        self.words = [len(layout[index].values) for index in self.categories]
        self.embeddings = nn.ModuleList(nn.Embedding(words + 2, _dimension(words)) for words in self.words)
        layers: list[nn.Module] = []
        before = len(self.numbers) + 2 * sum(map(len, self.dates.values())) + sum(map(_dimension, self.words))
        for width in hidden:
            layers += [nn.Linear(before, width), nn.SiLU(), nn.Dropout(dropout)]
            before = width
        self.body = nn.Sequential(*layers, nn.Linear(before, outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """Float rows (batch, columns), NaN where a value is missing, to (batch, outputs)."""
        features = [self._standard(rows)] if self.numbers else []
        for index, periods in self.dates.items():
            days = rows[:, index, None]
            for period, phase in periods:
                angle = 2 * math.pi * (days + phase) / period
                circle = torch.cat((angle.sin(), angle.cos()), 1)
                features.append(torch.where(days.isnan(), torch.zeros_like(circle), circle))
        for index, words, embedding in zip(self.categories, self.words, self.embeddings, strict=True):
            features.append(embedding(self._entries(rows[:, index], words)))
        return self.body(features[0] if len(features) == 1 else torch.cat(features, 1))

    def _standard(self, rows: Tensor) -> Tensor:
        numbers = rows[:, self.numbers] if self.categories else rows
        standard = (numbers - self.mean) / self.std
        # Far outside the training range the network knows nothing; there it should at least not explode.
        return torch.where(numbers.isnan(), torch.zeros_like(standard), standard).clamp(-10, 10)

    def _entries(self, codes: Tensor, words: int) -> Tensor:
        """The rows of an embedding: its words, then the entry for the unknown, then that for a missing one."""
        unknown, missing = torch.full_like(codes, words), torch.full_like(codes, words + 1)
        known = (codes >= 0) & (codes < words)
        if self.training:
            # Words that training rows do not repeat may be too few to teach what an unknown word means.
            known &= torch.rand_like(codes) >= _FORGOTTEN
        entries = torch.where(codes.isnan(), missing, torch.where(known, codes, unknown))
        return entries.long()


def _dimension(words: int) -> int:
    """Of the vectors of a category with so many words."""
    return min(16, words + 1, round(1.6 * (words + 2) ** 0.56))


def _periods(card: ColumnCard, days: Floats) -> list[tuple[float, float]]:
    """The periods that a column of dates covers, in days, each with the phase of its origin: week, year and day."""
    assert card.origin is not None  # noqa: S101 - the card has seen to it
    known = days[~np.isnan(days)]
    whole = bool((known == np.floor(known)).all())
    periods = [(7.0, 0.0), (_YEAR, float(card.origin.timetuple().tm_yday - 1))]
    return periods if whole else [*periods, (1.0, 0.0)]


def build(
    network: NetworkSettings, layout: Sequence[ColumnCard], train: TabularSplit, outputs: int, seed: int
) -> TabularNetwork:
    """The network, with weights initialised from `seed` and standardisation from the training rows."""
    torch.manual_seed(seed)
    return TabularNetwork(layout, train.rows, outputs, network.hidden, network.dropout)


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
