"""A bidirectional recurrent network over words, in a form that can be exported with any batch size and length."""

from typing import Literal

import torch
from torch import Tensor, nn

from service.tasks.text.reading import PAD
from training.text.operators import gru, lstm
from training.text.options import NetworkSettings

Cell = Literal["gru", "lstm"]


class Recurrent(nn.Module):
    """A bidirectional recurrent layer; padding at the end of a text changes nothing.

    PyTorch's own bidirectional layers would begin with the padding in one direction. Here a second layer reads the
    texts reversed, each by its own length.

    Args:
        cell: `gru` or `lstm`.
        features: of the input.
        hidden: units of each direction.
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
        reversed_ = torch.where(time < lengths, lengths - 1 - time, time)[..., None]
        ahead = self._states(self.forwards, x)
        back = self._states(self.backwards, x.gather(1, reversed_.expand(-1, -1, x.shape[2])))
        return torch.cat((ahead, back.gather(1, reversed_.expand(-1, -1, back.shape[2]))), -1)

    def _states(self, layer: nn.GRU | nn.LSTM, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
            return {"gru": gru, "lstm": lstm}[self.cell](x, *weights)
        states, _ = layer(x)
        return states


class Encoder(nn.Module):
    """Recurrent layers, mean and maximum pooling of their states over the words, one linear layer.

    Args:
        features: embedding dimension.
        classes: the number of classes.
        cell: `gru` or `lstm`.
        hidden: units of each direction of each layer.
        layers: recurrent layers.
        dropout: before each layer and before the last.
    """

    def __init__(self, features: int, classes: int, cell: Cell, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Recurrent(cell, features if index == 0 else 2 * hidden, hidden) for index in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * hidden, classes)

    def forward(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """Logits, shape (batch, classes).

        Args:
            x: word vectors, shape (batch, time, features).
            mask: whether each is a word and not padding, shape (batch, time).
            lengths: words of each text, shape (batch, 1).
        """
        for layer in self.layers:
            x = layer(self.dropout(x), lengths)
        mean = (x * mask[..., None]).sum(1) / lengths.clamp_min(1)
        # The states of both cells are greater than -1.
        maximum = torch.where(mask[..., None], x, -1.0).amax(1)
        return self.head(self.dropout(torch.cat((mean, maximum), 1)))


class TextNetwork(nn.Module):
    """Word embeddings, several recurrent encoders that each predict the class, and a bag-of-words layer.

    The encoders are an ensemble (Hansen and Salamon 1990) that shares its embeddings; the bag-of-words layer is the
    wide part of a wide and deep network (Cheng et al. 2016, arXiv:1606.07792).

    Args:
        words: size of the vocabulary, padding and unknown included.
        classes: the number of classes.
        cell: `gru` or `lstm`.
        embedding: embedding dimension.
        hidden: units of each direction of each layer.
        layers: recurrent layers of an encoder.
        dropout: before each layer and before the last.
        encoders: how many.
        wide: whether to add the bag-of-words layer.
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
        encoders: int = 1,
        wide: bool = False,
    ) -> None:
        super().__init__()
        self.vectors = nn.Embedding(words, embedding, padding_idx=PAD)
        nn.init.normal_(self.vectors.weight, std=0.1)
        self.encoders = nn.ModuleList(
            Encoder(embedding, classes, cell, hidden, layers, dropout) for _ in range(encoders)
        )
        self.votes = nn.Embedding(words, classes, padding_idx=PAD) if wide else None
        if self.votes is not None:
            nn.init.zeros_(self.votes.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Log-probabilities of the classes for token ids, int64, shape (batch, time), padded with 0 at the end.

        Returns:
            Shape (batch, classes), the mean over the encoders; in training (batch, encoders, classes), since each
            encoder has a loss of its own.
        """
        mask = ids != PAD
        lengths = mask.sum(1, keepdim=True)
        x = self.vectors(ids)
        logits = torch.stack([encoder(x, mask, lengths) for encoder in self.encoders], 1)
        if self.votes is not None:
            # Word counts, normalised by their Euclidean length if no word is repeated.
            logits = logits + (self.votes(ids).sum(1) / lengths.clamp_min(1).sqrt())[:, None]
        each = torch.log_softmax(logits, -1)
        return each if self.training else each.mean(1)


def build(network: NetworkSettings, words: int, classes: int, seed: int) -> TextNetwork:
    """The network, with weights initialised from `seed`."""
    torch.manual_seed(seed)
    return TextNetwork(
        words,
        classes,
        network.cell,
        network.embedding,
        network.hidden,
        network.layers,
        network.dropout,
        network.encoders,
        network.wide,
    )
