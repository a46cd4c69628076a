"""A bidirectional recurrent network over words, in a form that can be exported with any batch size and length."""

from collections.abc import Callable
from typing import Any

import onnxscript
import torch
from torch import Tensor, nn

from service.tasks.text.reading import PAD
from training.export.calibration import Scaling
from training.export.scaling import ScalingLayer
from training.text.linear import NETWORK_ALONE, Votes
from training.text.options import NetworkSettings

# Its declared types do not allow a constant as an argument.
op: Any = onnxscript.opset20


@torch.library.custom_op("quartet::gru", mutates_args=())
def gru(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """States of one GRU layer, shape (batch, time, hidden), of inputs (batch, time, features), as `nn.GRU`.

    How PyTorch exports its recurrent layers depends on what was exported before in the same process, and may fix the
    length (torch 2.14). A custom operator with an ONNX function of its own does not have that problem.
    """
    start = x.new_zeros((1, x.shape[0], w_hh.shape[1]))
    return torch.gru(x, start, (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, False, False, True)[0].clone()


@gru.register_fake
def _(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:  # noqa: ARG001
    return x.new_empty((x.shape[0], x.shape[1], w_hh.shape[1]))


def _onnx_gru(x: Any, *weights: Any) -> Any:
    """PyTorch has the gates reset, update, new; ONNX update, reset, hidden. Both reset after the product."""
    gates = [op.Split(weight, num_outputs=3, axis=0) for weight in weights]
    w_ih, w_hh, b_ih, b_hh = (op.Concat(update, reset, new, axis=0) for reset, update, new in gates)
    first = op.Constant(value_ints=[0])
    outputs = op.GRU(
        op.Transpose(x, perm=[1, 0, 2]),
        op.Unsqueeze(w_ih, first),
        op.Unsqueeze(w_hh, first),
        op.Unsqueeze(op.Concat(b_ih, b_hh, axis=0), first),
        hidden_size=weights[1].shape[1],
        linear_before_reset=1,
    )
    # (time, directions, batch, hidden)
    return op.Transpose(op.Squeeze(outputs[0], op.Constant(value_ints=[1])), perm=[1, 0, 2])


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.quartet.gru.default: _onnx_gru}


class Encoder(nn.Module):
    """A bidirectional GRU layer, mean and maximum pooling of its states over the words, one linear layer.

    PyTorch's own bidirectional layers begin with the padding in one direction. Here a second layer reads the texts
    reversed, each by its own length.
    """

    def __init__(self, classes: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.forwards = nn.GRU(settings.embedding, settings.hidden, batch_first=True)
        self.backwards = nn.GRU(settings.embedding, settings.hidden, batch_first=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(4 * settings.hidden, classes)

    def states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Shape (batch, time, features) and lengths (batch, 1) to (batch, time, 2 * hidden)."""
        time = torch.arange(x.shape[1], device=x.device)[None]
        reversed_ = torch.where(time < lengths, lengths - 1 - time, time)[..., None]
        ahead = _states(self.forwards, x)
        back = _states(self.backwards, x.gather(1, reversed_.expand(-1, -1, x.shape[2])))
        return torch.cat((ahead, back.gather(1, reversed_.expand(-1, -1, back.shape[2]))), -1)

    def forward(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """Logits, shape (batch, classes), of word vectors (batch, time, features); `mask` is False for padding."""
        x = self.states(self.dropout(x), lengths)
        mean = (x * mask[..., None]).sum(1) / lengths.clamp_min(1)
        # The states are greater than -1.
        maximum = torch.where(mask[..., None], x, -1.0).amax(1)
        return self.head(self.dropout(torch.cat((mean, maximum), 1)))


def _states(layer: nn.GRU, x: Tensor) -> Tensor:
    if torch.compiler.is_exporting():
        return gru(x, layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
    return layer(x)[0]


class TextNetwork(nn.Module):
    """Word embeddings, several recurrent encoders that each predict the class, and a bag-of-words layer.

    The encoders are an ensemble (Hansen and Salamon 1990) that shares its embeddings; the bag-of-words layer is the
    wide part of a wide and deep network (Cheng et al. 2016, arXiv:1606.07792). `words` counts padding and unknown.
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

    `linear` returns decision values, which are added to the logits of `network` as `votes` says.
    """

    def __init__(
        self, network: nn.Module, scaling: Scaling, linear: nn.Module | None = None, votes: Votes = NETWORK_ALONE
    ) -> None:
        super().__init__()
        self.network = network
        self.scaling = ScalingLayer(scaling)
        self.linear = linear if votes.linear else None
        self.votes = votes

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.network(ids)
        if self.linear is not None:
            # Even with a weight of 0 the network remains: the out-of-distribution score reads its features.
            logits = self.votes.network * logits + self.votes.linear * self.linear(ids)
        return torch.softmax(self.scaling(logits), dim=1)
