"""A bidirectional recurrent network over words, in a form that can be exported with any batch size and length."""

import torch
from torch import Tensor, nn

from service.tasks.text.reading import PAD
from training.export.calibration import Scaling
from training.text.operators import gru
from training.text.options import NetworkSettings


class Recurrent(nn.Module):
    """A bidirectional GRU layer whose states do not depend on the padding at the end of a text.

    PyTorch's own bidirectional layers begin with the padding in one direction. Here a second layer reads the texts
    reversed, each by its own length.
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.forwards = nn.GRU(features, hidden, batch_first=True)
        self.backwards = nn.GRU(features, hidden, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Shape (batch, time, features) and lengths (batch, 1) to (batch, time, 2 * hidden)."""
        time = torch.arange(x.shape[1], device=x.device)[None]
        reversed_ = torch.where(time < lengths, lengths - 1 - time, time)[..., None]
        ahead = _states(self.forwards, x)
        back = _states(self.backwards, x.gather(1, reversed_.expand(-1, -1, x.shape[2])))
        return torch.cat((ahead, back.gather(1, reversed_.expand(-1, -1, back.shape[2]))), -1)


def _states(layer: nn.GRU, x: Tensor) -> Tensor:
    if torch.compiler.is_exporting():
        return gru(x, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    states, _ = layer(x)
    return states


class Encoder(nn.Module):
    """Recurrent layers, mean and maximum pooling of their states over the words, one linear layer."""

    def __init__(self, classes: int, settings: NetworkSettings) -> None:
        super().__init__()
        widths = [settings.embedding, *[2 * settings.hidden] * settings.layers]
        self.layers = nn.ModuleList(Recurrent(features, settings.hidden) for features in widths[:-1])
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(4 * settings.hidden, classes)

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
        # The states are greater than -1.
        maximum = torch.where(mask[..., None], x, -1.0).amax(1)
        return self.head(self.dropout(torch.cat((mean, maximum), 1)))


class TextNetwork(nn.Module):
    """Word embeddings, several recurrent encoders that each predict the class, and a bag-of-words layer.

    The encoders are an ensemble (Hansen and Salamon 1990) that shares its embeddings; the bag-of-words layer is the
    wide part of a wide and deep network (Cheng et al. 2016, arXiv:1606.07792).

    Args:
        words: size of the vocabulary, padding and unknown included.
        classes: the number of classes.
        settings: dimensions.
    """

    def __init__(self, words: int, classes: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.vectors = nn.Embedding(words, settings.embedding, padding_idx=PAD)
        nn.init.normal_(self.vectors.weight, std=0.1)
        self.encoders = nn.ModuleList(Encoder(classes, settings) for _ in range(settings.encoders))
        self.votes = nn.Embedding(words, classes, padding_idx=PAD) if settings.wide else None
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
