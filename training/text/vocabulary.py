"""Chooses words or parts of words, and the runs of them that vote, by a linear classifier of training texts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram

from training.data.dataset import stratified_sample
from training.engine.progress import track
from training.text.data import Ids
from training.text.linear import ORDERS, held_out_accuracy
from training.text.options import TokenSettings, Vocabulary
from training.text.tokenizer import build_tokenizer, to_ids

# Few parts are nearly characters, which misspelt and inflected words have in common.
_PARTS = (500, 1_000, 4_000)
# The most training texts that are used, the most characters of them together, and the most tokens of each.
_MOST_TEXTS, _MOST_CHARACTERS, _LENGTH = 10_000, 4_000_000, 512


@dataclass(frozen=True, slots=True)
class Trial:
    """A vocabulary, and the length of runs of its tokens, with the accuracy of a linear classifier."""

    tokens: TokenSettings
    orders: int
    accuracy: float

    def __str__(self) -> str:
        return f"{describe_vocabulary(self.tokens)} {self.accuracy:.4f}"


def try_vocabularies(texts: Sequence[str], labels: Ids, classes: int, settings: TokenSettings) -> list[Trial]:
    """The vocabularies that come into question, each with its best runs of tokens, the best one first."""
    some = _sample(texts, labels)
    sample = [texts[index] for index in some]
    trials = []
    for tokens in track(list(_candidates(settings)), "vocabularies"):
        kind: Vocabulary = tokens.vocabulary or "words"
        tokenizer = build_tokenizer(sample, tokens.words or None, _LENGTH, digits=tokens.digits, vocabulary=kind)
        ids, words = to_ids(tokenizer, sample), tokenizer.get_vocab_size()
        trials.append(max(_try_orders(tokens, ids, labels[some], words, classes), key=lambda trial: trial.accuracy))
    return sorted(trials, key=lambda trial: -trial.accuracy)


def choose_orders(texts: Sequence[Ids], labels: Ids, words: int, classes: int) -> int:
    """Up to which length runs of tokens are to vote; `texts` are the token ids of the training texts."""
    some = np.sort(stratified_sample(labels, _MOST_TEXTS, 0))
    ids = [texts[index] for index in some]
    trials = _try_orders(TokenSettings(), ids, labels[some], words, classes)
    return max(trials, key=lambda trial: trial.accuracy).orders


def describe_vocabulary(settings: TokenSettings) -> str:
    """Such as `words` or `1,000 parts of words (bpe)`."""
    count = f"{settings.words:,} " if settings.words else ""
    return f"{count}words" if settings.vocabulary == "words" else f"{count}parts of words ({settings.vocabulary})"


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """Which kind of vocabulary a tokenizer of `build_tokenizer` has."""
    if isinstance(tokenizer.model, BPE):
        return "bpe"
    return "unigram" if isinstance(tokenizer.model, Unigram) else "words"


def _candidates(settings: TokenSettings) -> Iterator[TokenSettings]:
    yield replace(settings, vocabulary="words")
    for parts in (settings.words,) if settings.words else _PARTS:
        yield replace(settings, vocabulary="bpe", words=parts)


def _try_orders(tokens: TokenSettings, ids: Sequence[Ids], labels: Ids, words: int, classes: int) -> list[Trial]:
    return [Trial(tokens, orders, held_out_accuracy(ids, labels, words, classes, orders)) for orders in ORDERS]


def _sample(texts: Sequence[str], labels: Ids) -> Ids:
    most = int(_MOST_CHARACTERS * len(texts) / max(1, sum(map(len, texts))))
    return np.sort(stratified_sample(labels, max(1_000, min(_MOST_TEXTS, most)), 0))
