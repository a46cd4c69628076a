"""Chooses between words and parts of words for a data set."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram

from training.data.dataset import stratified_sample
from training.text.data import Ids
from training.text.linear import held_out_accuracy
from training.text.options import TokenSettings, Vocabulary
from training.text.tokenizer import build_tokenizer, to_ids

# Few parts are nearly characters, which misspelt and inflected words have in common.
_PARTS = (1_000, 4_000)
# The most training texts that compare vocabularies, and the most tokens of each.
_MOST_TEXTS, _LENGTH = 10_000, 512


def choose_vocabulary(
    texts: Sequence[str], labels: Ids, classes: int, settings: TokenSettings
) -> tuple[TokenSettings, dict[str, float]]:
    """The settings with the vocabulary that suits a linear classifier best, and what was compared.

    Returns:
        The settings, and the cross-validated accuracy of each vocabulary on a sample of the training texts.
    """
    some = np.sort(stratified_sample(labels, _MOST_TEXTS, 0))
    sample = [texts[index] for index in some]
    accuracies: dict[str, float] = {}
    best = settings
    for tokens in _candidates(settings):
        size = tokens.words or None
        tokenizer = build_tokenizer(
            sample, size, _LENGTH, digits=tokens.digits, vocabulary=tokens.vocabulary or "words"
        )
        ids, words = to_ids(tokenizer, sample), tokenizer.get_vocab_size()
        accuracy = held_out_accuracy(ids, labels[some], words, classes)
        if accuracy > max(accuracies.values(), default=-1):
            best = tokens
        accuracies[describe_vocabulary(tokens)] = accuracy
    return best, accuracies


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
