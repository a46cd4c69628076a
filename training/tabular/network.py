"""A dense network on the rows of a table, with the preprocessing inside, what it learns, and the exported graph."""

import math
from collections.abc import Sequence
from datetime import date

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from service.tasks.tabular.columns import ColumnCard
from training.engine.learner import Batch, Learner, Step
from training.engine.processes import in_parts
from training.tabular.columns import Floats
from training.tabular.data import TabularData, TabularSplit
from training.tabular.options import Kind, NetworkSettings
from training.tabular.trees import Trees

# The fraction of known words that are replaced by the unknown one in training.
_WORD_DROPOUT = 0.02
# The smallest probability that has a logarithm.
_TINY = 1e-30


class TabularNetwork(nn.Module):
    """Columns as features, then dense layers.

    Numbers are standardised, with missing values imputed by the mean. A date becomes its standardised number of days
    and its position in the week, in the year and, if dates have times, in the day, as points on circles. A category
    becomes an embedding for each word, one for all unknown words and one for a missing word (Guo and Berkhahn 2016,
    arXiv:1604.06737).

    `rows` are those of the training split, float32, shape (n, columns), NaN where a value is missing.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layout: Sequence[ColumnCard], rows: Floats, outputs: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.categories = [index for index, card in enumerate(layout) if card.kind == "category"]
        self.numbers = [index for index, card in enumerate(layout) if card.kind != "category"]
        self.dates = {index: _periods(card.origin, rows[:, index]) for index, card in enumerate(layout) if card.origin}
        table = torch.from_numpy(rows[:, self.numbers]).double()
        mean = table.nanmean(0).nan_to_num(0)
        variance = (table - mean).square().nanmean(0).nan_to_num(0)
        self.register_buffer("mean", mean.float())
        # The rounding errors of a column that is constant in float32 must not be scaled up.
        varies = variance > (mean * 1e-7).square()
        self.register_buffer("std", torch.where(varies, variance.sqrt(), 1.0).float())
        self.words = [len(layout[index].values) for index in self.categories]
        sizes = [min(16, words + 1, round(1.6 * (words + 2) ** 0.56)) for words in self.words]
        self.embeddings = nn.ModuleList(map(nn.Embedding, [words + 2 for words in self.words], sizes))
        layers: list[nn.Module] = []
        before = len(self.numbers) + 2 * sum(map(len, self.dates.values())) + sum(sizes)
        for width in settings.hidden:
            layers += [nn.Linear(before, width), nn.SiLU(), nn.Dropout(settings.dropout)]
            before = width
        self.body = nn.Sequential(*layers, nn.Linear(before, outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """Float rows (batch, columns), NaN where a value is missing, to (batch, outputs)."""
        outputs: Tensor = self.body(self.features(rows))
        return outputs

    def features(self, rows: Tensor) -> Tensor:
        """The columns made ready, shape (batch, features)."""
        features = []
        if self.numbers:
            numbers = rows[:, self.numbers] if self.categories else rows
            # Far outside of the training range the outputs should at least stay bounded.
            features.append(_imputed((numbers - self.mean) / self.std).clamp(-10, 10))
        for index, periods in self.dates.items():
            for period, phase in periods:
                angle = 2 * math.pi * (rows[:, index, None] + phase) / period
                features.append(_imputed(torch.cat((angle.sin(), angle.cos()), 1)))
        for index, words, embedding in zip(self.categories, self.words, self.embeddings, strict=True):
            features.append(embedding(self._entries(rows[:, index], words)))
        return features[0] if len(features) == 1 else torch.cat(features, 1)

    def _entries(self, codes: Tensor, words: int) -> Tensor:
        """The entries of an embedding: those of its words, then one for unknown words and one for a missing word."""
        unknown, missing = torch.full_like(codes, words), torch.full_like(codes, words + 1)
        known = (codes >= 0) & (codes < words)
        if self.training:
            # Words that training rows do not repeat may be too few to train the entry for the unknown.
            known &= torch.rand_like(codes) >= _WORD_DROPOUT
        return torch.where(codes.isnan(), missing, torch.where(known, codes, unknown)).long()


def _imputed(values: Tensor) -> Tensor:
    return torch.where(values.isnan(), torch.zeros_like(values), values)


def _periods(origin: date, days: Floats) -> list[tuple[float, float]]:
    """The periods that a column of dates covers, in days, each with the phase of its origin: week, year and day."""
    known = days[~np.isnan(days)]
    periods = [(7.0, 0.0), (365.2425, float(origin.timetuple().tm_yday - 1))]
    return periods if bool((known == np.floor(known)).all()) else [*periods, (1.0, 0.0)]


def build(network: NetworkSettings, data: TabularData, train: TabularSplit, seed: int) -> TabularNetwork:
    """The network, with weights initialised from `seed` and standardisation from the training rows."""
    torch.manual_seed(seed)
    return TabularNetwork(data.layout, train.rows, len(data.classes) or 1, network)


class TabularGraph(nn.Module):
    """The whole graph: rows in; calibrated probabilities (batch, classes), or values (batch, 1), out.

    Args:
        network: also of a graph without its answers, since the out-of-distribution score measures its features.
        trees: of gradient boosting; None if the share is 1.
        share: of the network in the answer; the rest is that of the trees.
        temperature: of the probabilities.
        scale: mean and standard deviation of a numeric target; None for classes.
    """

    def __init__(
        self,
        network: TabularNetwork,
        trees: Trees | None,
        share: float,
        temperature: float,
        scale: tuple[float, float] | None,
    ) -> None:
        super().__init__()
        self.network, self.trees, self.share = network, trees, share
        self.temperature, self.scale = temperature, scale

    def forward(self, rows: Tensor) -> Tensor:
        return self.answer(rows, self.network.features(rows))

    def answer(self, rows: Tensor, features: Tensor) -> Tensor:
        """The answers, given the rows and `TabularNetwork.features` of them."""
        parts = []
        if self.share:
            parts.append((self.share, self.network.body(features)))
        if self.trees is not None:
            parts.append((1 - self.share, self.trees(rows)))
        if self.scale is not None:
            mean, deviation = self.scale
            return _weighted(parts) * deviation + mean
        logits = parts[0][1]
        if len(parts) > 1:
            logits = _weighted([(share, outputs.softmax(1)) for share, outputs in parts]).clamp_min(_TINY).log()
        return torch.softmax(logits / self.temperature, dim=1)


class WithFeatures(nn.Module):
    """The answers of a graph, and the columns made ready, as they are exported."""

    def __init__(self, graph: TabularGraph) -> None:
        super().__init__()
        self.whole = graph

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        features = self.whole.network.features(rows)
        return self.whole.answer(rows, features), features


def _weighted(parts: Sequence[tuple[float, Tensor]]) -> Tensor:
    """The weighted sum of outputs."""
    (first, outputs), *rest = parts
    total = first * outputs
    for share, more in rest:
        total = total + share * more
    return total


class Rows(Learner):
    """Learns from the rows of `train`; numeric targets are standardised by their mean and standard deviation."""

    unit = "rows"
    score = "score"

    def __init__(self, train: TabularSplit, validation: TabularSplit, kind: Kind) -> None:
        self._kind = kind
        mean, std = target_scale(train, kind) or (0, 1)
        self._rows, self._validation = torch.from_numpy(train.rows), validation.rows
        self._targets, self._validation_targets = (
            torch.from_numpy(split.targets if kind == "classification" else (split.targets - mean) / std)
            for split in (train, validation)
        )

    def __len__(self) -> int:
        return len(self._targets)

    def batch(self, items: Tensor, epoch: int, rng: torch.Generator) -> Batch:  # noqa: ARG002
        return {"rows": self._rows[items], "targets": self._targets[items]}

    def loss(self, network: nn.Module, batch: Batch, step: Step) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002
        return self._loss(network(batch["rows"]).float(), batch["targets"]), {}

    def validate(self, network: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        rows, targets = self._validation, self._validation_targets
        with accelerator.autocast():
            outputs = in_parts(accelerator, len(rows), lambda indices: list(predict(network, rows[indices])))
        predicted = torch.from_numpy(np.stack(outputs))
        loss = self._loss(predicted, targets).item()
        figures = {"loss": loss, "score": float(np.exp(-loss))}
        if self._kind == "classification":
            figures["accuracy"] = (predicted.argmax(1) == targets).double().mean().item()
        return figures

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._kind == "classification":
            return F.cross_entropy(outputs, targets)
        return F.mse_loss(outputs.squeeze(1), targets)


def target_scale(train: TabularSplit, kind: Kind) -> tuple[float, float] | None:
    """Mean and standard deviation of a numeric target; None for classes."""
    if kind == "classification":
        return None
    return float(train.targets.mean()), max(float(train.targets.std()), 1e-12)


@torch.no_grad()
def predict(network: nn.Module, rows: Floats) -> Floats:
    """The network's outputs, shape (n, outputs)."""
    device = next(network.parameters()).device
    return network.eval()(torch.from_numpy(rows).to(device)).float().cpu().numpy()
