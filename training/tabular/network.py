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
# The fraction of known words that are replaced by the unknown one in training.
_WORD_DROPOUT = 0.02


class TabularNetwork(nn.Module):
    """Columns as features, then dense layers.

    Numbers are standardised, with missing values imputed by the mean. A date becomes its standardised number of days
    and its position in the week, in the year and, if dates have times, in the day, as points on circles. A category
    becomes an embedding for each word, one for all unknown words and one for a missing word (Guo and Berkhahn 2016,
    arXiv:1604.06737).

    Args:
        layout: the columns, in the order of the rows.
        rows: of the training split, float32, shape (n, columns), NaN where a value is missing.
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
        mean = table.nanmean(0).nan_to_num(0)
        variance = (table - mean).square().nanmean(0).nan_to_num(0)
        self.register_buffer("mean", mean.float())
        # The rounding errors of a column that is constant in float32 must not be scaled up.
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
            for period, phase in periods:
                angle = 2 * math.pi * (rows[:, index, None] + phase) / period
                circle = torch.cat((angle.sin(), angle.cos()), 1)
                features.append(torch.where(circle.isnan(), torch.zeros_like(circle), circle))
        for index, words, embedding in zip(self.categories, self.words, self.embeddings, strict=True):
            features.append(embedding(self._entries(rows[:, index], words)))
        return self.body(features[0] if len(features) == 1 else torch.cat(features, 1))

    def _standard(self, rows: Tensor) -> Tensor:
        numbers = rows[:, self.numbers] if self.categories else rows
        standard = (numbers - self.mean) / self.std
        # Far outside of the training range the outputs should at least stay bounded.
        return torch.where(standard.isnan(), torch.zeros_like(standard), standard).clamp(-10, 10)

    def _entries(self, codes: Tensor, words: int) -> Tensor:
        """The entries of an embedding: those of its words, then one for unknown words and one for a missing word."""
        unknown, missing = torch.full_like(codes, words), torch.full_like(codes, words + 1)
        known = (codes >= 0) & (codes < words)
        if self.training:
            # Words that training rows do not repeat may be too few to train the entry for the unknown.
            known &= torch.rand_like(codes) >= _WORD_DROPOUT
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
