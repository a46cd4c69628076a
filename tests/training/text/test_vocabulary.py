import numpy as np
import pytest

from training.text.options import TokenSettings
from training.text.tokenizer import build_tokenizer
from training.text.vocabulary import choose_vocabulary, describe_vocabulary, vocabulary_of


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

    texts, labels = make_texts(300, inflected)
    chosen, accuracies = choose_vocabulary(texts, labels, 2, TokenSettings())
    assert chosen.vocabulary == "bpe"
    assert accuracies[describe_vocabulary(chosen)] == max(accuracies.values()) > accuracies["words"]
    assert len(accuracies) == 3


def test_words_are_chosen_where_parts_tell_no_more():
    texts, labels = make_texts(300, lambda _random, label: "oil" if label else "wheat")
    chosen, accuracies = choose_vocabulary(texts, labels, 2, TokenSettings(words=50, digits=True))
    assert chosen == TokenSettings(words=50, digits=True, vocabulary="words")
    assert [*accuracies] == ["50 words", "50 parts of words (bpe)"]


def test_texts_without_letters_have_a_vocabulary():
    chosen, _ = choose_vocabulary(["!!!", "8.5", "?!", "9 9"] * 10, np.array([0, 1] * 20), 2, TokenSettings())
    assert chosen.vocabulary in ("words", "bpe")


@pytest.mark.parametrize("kind", ["words", "bpe", "unigram"])
def test_a_tokenizer_says_which_kind_it_is(kind):
    assert vocabulary_of(build_tokenizer(["oil prices rose", "oil fell"] * 5, 30, 9, vocabulary=kind)) == kind
