"""The tokenizer of a model from Hugging Face, with the ids and without the special tokens that the service expects.

In the service 0 is padding and 1 an unknown word, and no token stands before or after a text. The composed graph maps
the ids back, and adds the special tokens.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from quartet.adopt.graph import CannotAdopt
from service.tasks.text.reading import PAD, UNKNOWN

# Texts of one or two tokens, with which special tokens are found.
_PROBES = ("a", "the", "0", ".")
_PADDINGS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")
_MASKS = ("[MASK]", "<mask>")
# Of a file.
_MOST_BYTES = 2**28
# A token of a private character, which no text holds.
_NEVER = "\ue000{}"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as it is served, and what the graph has to know of the original.

    Attributes:
        tokenizer: padding is 0, an unknown word 1; it neither truncates nor pads nor adds special tokens.
        own_ids: for each of its ids that of the original.
        before: ids of the original before a text; `after` those that follow it.
        special: ids of the tokenizer that a text does not have, such as `[MASK]`.
        neutral: the token that stands for a word that is left out, if the original has no unknown token.
        limit: the most tokens that the original reads, those before and after included; None if it states none.
    """

    tokenizer: Tokenizer
    own_ids: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    special: frozenset[int]
    neutral: str | None
    limit: int | None

    @property
    def added(self) -> int:
        """How many tokens stand before and after a text."""
        return len(self.before) + len(self.after)


def read_vocabulary(path: Path, config: Mapping[str, Any]) -> Vocabulary:
    """Reads a `tokenizer.json`, and the `tokenizer_config.json` beside it if there is one.

    Args:
        path: of the file, which a fast tokenizer of `transformers` writes.
        config: the model's `config.json`; may be empty.

    Raises:
        CannotAdopt: the file cannot be read, or the tokens before and after a text cannot be told.
    """
    _check_size(path)
    try:
        original = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain exceptions
        raise CannotAdopt("tokenizer", f"{path} cannot be read as a tokenizer.json: {error}") from None
    described = json.loads(original.to_str())
    before, after = _special_tokens(original, path)
    size = max(original.get_vocab(with_added_tokens=True).values()) + 1
    own_ids = list(range(size))
    pad, unknown = _padding(original, described, config), _unknown(original, described)
    neutral = None
    # The original's padding token may occur in a text, so that the served one is a token of its own.
    own_ids.append(own_ids[PAD])
    own_ids[PAD] = pad
    if unknown is None:
        masks = {token: number for token in _MASKS if (number := original.token_to_id(token)) is not None}
        neutral, substitute = next(iter(masks.items()), ("padding", pad))
        own_ids.append(own_ids[UNKNOWN])
        own_ids[UNKNOWN] = substitute
    else:
        place = own_ids.index(unknown, UNKNOWN)
        own_ids[UNKNOWN], own_ids[place] = own_ids[place], own_ids[UNKNOWN]
    served = {own: index for index, own in enumerate(own_ids) if index != PAD and (index != UNKNOWN or own == unknown)}
    special = frozenset(served[token["id"]] for token in described["added_tokens"] if token["special"])
    limit = _limit(path, described, config)
    return Vocabulary(
        _renumbered(described, served, len(own_ids)),
        tuple(own_ids),
        before,
        after,
        special,
        neutral,
        limit,
    )


def _special_tokens(original: Tokenizer, path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and after a text."""
    original.no_truncation()
    original.no_padding()
    for probe in _PROBES:
        whole, plain = (original.encode(probe, add_special_tokens=added) for added in (True, False))
        if not plain.ids:
            continue
        starts = [i for i in range(len(whole.ids)) if whole.ids[i : i + len(plain.ids)] == plain.ids]
        if any(whole.type_ids) or not starts:
            break
        return tuple(whole.ids[: starts[0]]), tuple(whole.ids[starts[0] + len(plain.ids) :])
    raise CannotAdopt(
        "tokenizer", f"{path}: the special tokens before and after a text cannot be told apart from its own."
    )


def _padding(original: Tokenizer, described: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """The id that pads the original's inputs."""
    stated = config.get("pad_token_id")
    if isinstance(stated, int) and original.id_to_token(stated) is not None:
        return stated
    if described["padding"]:
        return int(described["padding"]["pad_id"])
    return next((number for token in _PADDINGS if (number := original.token_to_id(token)) is not None), 0)


def _unknown(original: Tokenizer, described: Mapping[str, Any]) -> int | None:
    """The id of the unknown token; None if the tokenizer knows every text."""
    model = described["model"]
    if "unk_id" in model:
        return None if model["unk_id"] is None else int(model["unk_id"])
    token = model.get("unk_token")
    return original.token_to_id(token) if token else None


def _renumbered(described: dict[str, Any], served: Mapping[int, int], size: int) -> Tokenizer:
    """A tokenizer with other ids, without special tokens before and after a text, padding and truncation."""
    model, added = described["model"], described["added_tokens"]
    for token in added:
        token["id"] = served[token["id"]]
    added.sort(key=lambda token: token["id"])
    # The library gives ids of its own to added tokens that the model lacks.
    numbered = {token["content"]: token["id"] for token in added}
    if isinstance(model["vocab"], dict):
        model["vocab"] = {token: served[own] for token, own in model["vocab"].items()} | numbered
        if model["type"] == "WordLevel" and "unk_token" not in model:
            model["unk_token"] = ""
    else:  # of a unigram language model: the index is the id
        lowest = min((score for _, score in model["vocab"]), default=0.0)
        pieces = {served[own]: piece for own, piece in enumerate(model["vocab"])}
        pieces |= {number: [token, lowest] for token, number in numbered.items() if number not in pieces}
        model["vocab"] = [pieces.get(index, [_NEVER.format(index), lowest]) for index in range(size)]
        model["unk_id"] = UNKNOWN
    described |= {"post_processor": _trimming(described), "padding": None, "truncation": None}
    return Tokenizer.from_str(json.dumps(described))


def _trimming(described: Mapping[str, Any]) -> dict[str, Any] | None:
    """A post-processor that leaves the space before a word out of its offsets, where tokens are of bytes."""
    steps = described["pre_tokenizer"] or {}
    if "ByteLevel" not in {step["type"] for step in (steps, *steps.get("pretokenizers", ())) if step}:
        return None
    return {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def _limit(path: Path, described: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    """The most tokens that the original states that it reads."""
    beside = read_json(path.with_name("tokenizer_config.json"))
    stated = [(described["truncation"] or {}).get("max_length")]
    stated += [beside.get("model_max_length"), config.get("max_position_embeddings")]
    numbers = [int(each) for each in stated if isinstance(each, int | float) and 0 < each < 1_000_000]
    return min(numbers, default=None)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file.

    Raises:
        CannotAdopt: it is no JSON object.
    """
    if not path.exists():
        return {}
    _check_size(path)
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CannotAdopt("config", f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(document, dict):
        raise CannotAdopt("config", f"{path} is no JSON object.")
    return document


def _check_size(path: Path) -> None:
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise CannotAdopt("too large", f"{path} is larger than 256 MB.")
