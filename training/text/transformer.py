"""A pretrained transformer of the library `transformers` as the backbone of a text classifier."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from service.tasks.text.reading import PAD, UNKNOWN
from training.text.options import TRANSFORMERS

_DROPOUT = 0.1


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A pretrained encoder and what its tokenizer says.

    Attributes:
        encoder: maps `input_ids` and `attention_mask` to `last_hidden_state`.
        tokenizer: as it is served: padding is 0, unknown 1, and it adds no special tokens.
        own_ids: for each id of `tokenizer` that of the encoder, int64, shape (words,).
        before: special tokens that begin a text, as ids of the encoder.
        after: special tokens that end a text.
        most: the most tokens of a text without the special ones.
    """

    encoder: Any
    tokenizer: Tokenizer
    own_ids: Tensor
    before: tuple[int, ...]
    after: tuple[int, ...]
    most: int


def load_pretrained(backbone: str) -> Pretrained:
    """Loads `transformers:MODEL`, where MODEL is a hub id or a folder with configuration, weights and tokenizer.

    Raises:
        ValueError: there is no such model, or its tokenizer lacks what the service needs.
    """
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise ValueError(f"--backbone {backbone}: needs the package transformers") from None
    model = backbone.removeprefix(TRANSFORMERS)
    try:
        wrapped: Any = AutoTokenizer.from_pretrained(model)
        encoder: Any = AutoModel.from_pretrained(model, use_safetensors=True, attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        raise ValueError(f"--backbone {backbone}: {error}") from None
    pad, unknown = wrapped.pad_token_id, wrapped.unk_token_id
    if not wrapped.is_fast or pad is None or unknown is None or pad == unknown:
        raise ValueError(f"--backbone {backbone}: needs a fast tokenizer with a padding and an unknown token")
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # for another pretraining task
    own_ids = list(range(encoder.get_input_embeddings().num_embeddings))
    for served, own in ((PAD, pad), (UNKNOWN, unknown)):
        other = own_ids.index(own)
        own_ids[served], own_ids[other] = own_ids[other], own_ids[served]
    plain, special = (wrapped("a", add_special_tokens=added)["input_ids"] for added in (False, True))
    start = next(index for index in range(len(special)) if special[index : index + len(plain)] == plain)
    before, after = tuple(special[:start]), tuple(special[start + len(plain) :])
    positions = getattr(encoder.config, "max_position_embeddings", None) or wrapped.model_max_length
    # RoBERTa counts positions from the padding id on.
    tables = (module for name, module in encoder.named_modules() if name.endswith("position_embeddings"))
    offset = max(
        (table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None), default=0
    )
    most = min(wrapped.model_max_length, positions - offset) - len(before) - len(after)
    return Pretrained(encoder, _served(wrapped.backend_tokenizer, own_ids), torch.tensor(own_ids), before, after, most)


def short_backbone(backbone: str) -> str:
    """The backbone without the path of a folder."""
    folder = Path(backbone.removeprefix(TRANSFORMERS))
    return f"{TRANSFORMERS}{folder.name}" if folder.is_dir() else backbone


def _served(tokenizer: Tokenizer, own_ids: Sequence[int]) -> Tokenizer:
    """The tokenizer with other ids, and without special tokens, padding and truncation."""
    described = json.loads(tokenizer.to_str())
    served = {own: index for index, own in enumerate(own_ids)}
    model = described["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {token: served[own] for token, own in model["vocab"].items()}
    else:  # of a unigram language model: the index is the id
        model["vocab"] = [model["vocab"][own] for own in own_ids[: len(model["vocab"])]]
        model["unk_id"] = UNKNOWN
    for token in described["added_tokens"]:
        token["id"] = served[token["id"]]
    described["added_tokens"].sort(key=lambda token: token["id"])
    described |= {"post_processor": None, "padding": None, "truncation": None}
    return Tokenizer.from_str(json.dumps(described))


class TransformerNetwork(nn.Module):
    """A pretrained encoder, mean pooling over its tokens, and one linear layer.

    It takes the ids of the served tokenizer, maps them to the encoder's and adds its special tokens.
    """

    own_ids: Tensor

    def __init__(self, pretrained: Pretrained, classes: int) -> None:
        super().__init__()
        self.backbone = pretrained.encoder
        self.register_buffer("own_ids", pretrained.own_ids)
        self._before, self._after = pretrained.before, pretrained.after
        self.dropout = nn.Dropout(_DROPOUT)
        self.head = nn.Linear(pretrained.encoder.config.hidden_size, classes)

    def pretrained(self) -> Iterable[nn.Parameter]:
        """The parameters that learn at `backbone_lr`."""
        return self.backbone.parameters()

    def forward(self, ids: Tensor) -> Tensor:
        """Log-probabilities of the classes for token ids, int64, shape (batch, time), padded with 0 at the end.

        Returns:
            Shape (batch, classes); in training (batch, 1, classes), as `TextNetwork` with one encoder.
        """
        ends = (ids != PAD).sum(1, keepdim=True) + len(self._before)
        before = ids.new_tensor(self._before).expand(ids.shape[0], -1)
        own = torch.cat((before, self.own_ids[nn.functional.pad(ids, (0, len(self._after)), value=PAD)]), 1)
        time = torch.arange(own.shape[1], device=ids.device)[None]
        for offset, token in enumerate(self._after):
            own = torch.where(time == ends + offset, token, own)
        mask = time < ends + len(self._after)
        states = self.backbone(input_ids=own, attention_mask=mask.long()).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        logits = torch.log_softmax(self.head(self.dropout(mean)), -1)
        return logits[:, None] if self.training else logits
