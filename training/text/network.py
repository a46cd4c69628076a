"""A bidirectional recurrent network over words, in a form that exports with any batch and any length."""

from typing import Literal

import torch
from torch import Tensor, nn

from service.tasks.text import PAD
from training.text.operators import gru, lstm

Cell = Literal["gru", "lstm"]


class Recurrent(nn.Module):
    """Reads each text from both ends; padding at the end changes nothing.

    Instead of a bidirectional module, which would begin with the padding, a second one reads the texts turned round,
    each by its own length.

    Args:
        cell: `gru` or `lstm`.
        features: of the input.
        hidden: of each direction.
    """

    def __init__(self, cell: Cell, features: int, hidden: int) -> None:
        super().__init__()
        self.cell = cell
        kind: type[nn.GRU | nn.LSTM] = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.forwards = kind(features, hidden, batch_first=True)
        self.backwards = kind(features, hidden, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Shape (batch, time, features) and lengths (batch, 1) to (batch, time, 2 * hidden)."""
        time = torch.arange(x.shape[1], device=x.device)[None]
        turned = torch.where(time < lengths, lengths - 1 - time, time)[..., None]
        ahead = self._states(self.forwards, x)
        back = self._states(self.backwards, x.gather(1, turned.expand(-1, -1, x.shape[2])))
        return torch.cat((ahead, back.gather(1, turned.expand(-1, -1, back.shape[2]))), -1)

    def _states(self, layer: nn.GRU | nn.LSTM, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
            return {"gru": gru, "lstm": lstm}[self.cell](x, *weights)
        states, _ = layer(x)
        return states


class Reader(nn.Module):
    """Recurrent layers, the mean and the maximum of their states over the words, one linear layer.

    Args:
        features: numbers a word.
        classes: how many.
        cell: `gru` or `lstm`.
        hidden: of each direction of each layer.
        layers: recurrent layers.
        dropout: the share of numbers dropped before each layer and before the last.
    """

    def __init__(self, features: int, classes: int, cell: Cell, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Recurrent(cell, features if index == 0 else 2 * hidden, hidden) for index in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * hidden, classes)

    def forward(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """Logits of vectors (batch, time, features), whether each is a word (batch, time), how many are (batch, 1)."""
        for layer in self.layers:
            x = layer(self.dropout(x), lengths)
        mean = (x * mask[..., None]).sum(1) / lengths.clamp_min(1)
        # The states of both cells lie above -1.
        most = torch.where(mask[..., None], x, -1.0).amax(1)
        return self.head(self.dropout(torch.cat((mean, most), 1)))


class TextNetwork(nn.Module):
    """Word vectors, several readers of them that each tell the class, and a vote of every single word.

    The readers are an ensemble (Hansen and Salamon 1990) that shares its word vectors; the words' votes are the wide
    part of a wide and deep network (Cheng et al. 2016, arXiv:1606.07792).

    Args:
        words: size of the vocabulary, padding and unknown included.
        classes: how many.
        cell: `gru` or `lstm`.
        embedding: numbers a word.
        hidden: of each direction of each layer.
        layers: recurrent layers of a reader.
        dropout: the share of numbers dropped before each layer and before the last.
        readers: how many.
        wide: whether words vote.
    """

    def __init__(
        self,
        words: int,
        classes: int,
        cell: Cell = "gru",
        embedding: int = 200,
        hidden: int = 200,
        layers: int = 1,
        dropout: float = 0.5,
        readers: int = 1,
        wide: bool = False,
    ) -> None:
        super().__init__()
        self.vectors = nn.Embedding(words, embedding, padding_idx=PAD)
        nn.init.normal_(self.vectors.weight, std=0.1)
        self.readers = nn.ModuleList(Reader(embedding, classes, cell, hidden, layers, dropout) for _ in range(readers))
        self.votes = nn.Embedding(words, classes, padding_idx=PAD) if wide else None
        if self.votes is not None:
            nn.init.zeros_(self.votes.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Of token ids, int64, shape (batch, time), 0 being padding at the end, the classes' log-probabilities.

        Returns:
            Shape (batch, classes), the readers' mean; in training (batch, readers, classes), for each learns alone.
        """
        mask = ids != PAD
        lengths = mask.sum(1, keepdim=True)
        x = self.vectors(ids)
        logits = torch.stack([reader(x, mask, lengths) for reader in self.readers], 1)
        if self.votes is not None:
            # Words are counted as in vectors of one length.
            logits = logits + (self.votes(ids).sum(1) / lengths.clamp_min(1).sqrt())[:, None]
        each = torch.log_softmax(logits, -1)
        return each if self.training else each.mean(1)
