"""A pretrained transformer of the library `transformers` as the backbone of a text classifier."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from service.tasks.text.reading import PAD, UNKNOWN
from training.text.options import TRANSFORMERS


class TransformerNetwork(nn.Module):
    """A pretrained encoder, mean pooling over its tokens, and one linear layer.

    It takes the ids of the served tokenizer, maps them to the encoder's and adds its special tokens. MODEL of
    `transformers:MODEL` is a hub id or a folder with configuration, weights and tokenizer.

    Attributes:
        tokenizer: as it is served: padding is 0, unknown 1, and it adds no special tokens.
        own_ids: for each id of `tokenizer` that of the encoder, int64, shape (words,).
        most: the most tokens of a text without the special ones.

    Raises:
        ValueError: there is no such model, or its tokenizer lacks what the service needs.
    """

    own_ids: Tensor

    def __init__(self, backbone: str, classes: int) -> None:
        super().__init__()
        self.backbone, wrapped = _load(backbone)
        pad, unknown = wrapped.pad_token_id, wrapped.unk_token_id
        if not wrapped.is_fast or pad is None or unknown is None or pad == unknown:
            raise ValueError(f"--backbone {backbone}: needs a fast tokenizer with a padding and an unknown token")
        if getattr(self.backbone, "pooler", None) is not None:
            self.backbone.pooler = None  # for another pretraining task
        own_ids = list(range(self.backbone.get_input_embeddings().num_embeddings))
        for served, own in ((PAD, pad), (UNKNOWN, unknown)):
            other = own_ids.index(own)
            own_ids[served], own_ids[other] = own_ids[other], own_ids[served]
        self.register_buffer("own_ids", torch.tensor(own_ids))
        self.tokenizer = _served(wrapped.backend_tokenizer, own_ids)
        plain, special = (wrapped("a", add_special_tokens=added)["input_ids"] for added in (False, True))
        start = next(index for index in range(len(special)) if special[index : index + len(plain)] == plain)
        self._before, self._after = tuple(special[:start]), tuple(special[start + len(plain) :])
        # RoBERTa counts positions from the padding id on.
        modules = self.backbone.named_modules()
        paddings = (
            getattr(each, "padding_idx", None) for name, each in modules if name.endswith("position_embeddings")
        )
        offset = max((padding + 1 for padding in paddings if padding is not None), default=0)
        positions = getattr(self.backbone.config, "max_position_embeddings", None) or wrapped.model_max_length
        self.most = min(wrapped.model_max_length, positions - offset) - len(self._before) - len(self._after)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(self.backbone.config.hidden_size, classes)

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


def _load(backbone: str) -> tuple[Any, Any]:
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise ValueError(f"--backbone {backbone}: needs the package transformers") from None
    model = backbone.removeprefix(TRANSFORMERS)
    try:
        encoder = AutoModel.from_pretrained(model, use_safetensors=True, attn_implementation="sdpa")
        return encoder, AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise ValueError(f"--backbone {backbone}: {error}") from None


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


def short_backbone(backbone: str) -> str:
    """The backbone without the path of a folder."""
    folder = Path(backbone.removeprefix(TRANSFORMERS))
    return f"{TRANSFORMERS}{folder.name}" if folder.is_dir() else backbone
