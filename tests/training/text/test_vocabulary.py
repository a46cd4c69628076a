import numpy as np
import pytest

from training.text.options import TokenSettings
from training.text.tokenizer import build_tokenizer
from training.text.vocabulary import choose_orders, try_vocabularies, vocabulary_of


def make_texts(count, word):
    """Texts of five words each and their classes; `word` makes a word of a class."""
    random = np.random.default_rng(0)
    labels = random.integers(2, size=count)
    texts = []
    for label in labels:
        neutral = random.choice(["the", "of", "said", "prices", "on", "a"], 4)
        texts.append(" ".join(random.permutation(np.append(neutral, word(random, label)))))
    return texts, labels


def test_parts_are_chosen_where_words_are_never_repeated():
    def inflected(random, label):
        return "".join(random.choice(list("abcdefg"), 4)) + ("oil" if label else "wheat")

    trials = try_vocabularies(*make_texts(300, inflected), 2, TokenSettings())
    assert len(trials) == 4
    assert trials[0].tokens.vocabulary == "bpe"
    assert trials[0].accuracy > 0.9 > trials[-1].accuracy
    assert trials[-1].tokens.vocabulary == "words"


def test_words_are_chosen_where_parts_tell_no_more():
    texts, labels = make_texts(300, lambda _random, label: "oil" if label else "wheat")
    trials = try_vocabularies(texts, labels, 2, TokenSettings(words=50, digits=True))
    assert trials[0].tokens == TokenSettings(words=50, digits=True, vocabulary="words")
    assert [str(trial) for trial in trials] == ["50 words 1.0000", "50 parts of words (bpe) 1.0000"]


def test_triples_vote_where_pairs_do_not_tell():
    random = np.random.default_rng(0)
    labels = random.integers(2, size=400)
    texts = []
    for label in labels:
        first, second = random.integers(2, size=2)
        texts.append(np.array([first, second, first ^ second ^ label]) + 2)
    assert choose_orders(texts, labels, 10, 2) == 3
    assert choose_orders([np.append(random.permutation(4) + 2, 6 + label) for label in labels], labels, 10, 2) == 2


def test_texts_without_letters_have_a_vocabulary():
    trials = try_vocabularies(["!!!", "8.5", "?!", "9 9"] * 10, np.array([0, 1] * 20), 2, TokenSettings())
    assert trials[0].accuracy > trials[-1].accuracy


@pytest.mark.parametrize("kind", ["words", "bpe", "unigram"])
def test_a_tokenizer_says_which_kind_it_is(kind):
    assert vocabulary_of(build_tokenizer(["oil prices rose", "oil fell"] * 5, 30, 9, vocabulary=kind)) == kind
