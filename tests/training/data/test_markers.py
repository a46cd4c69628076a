import numpy as np
import pytest

from training.data.dataset import Inspection
from training.data.markers import warn_of_markers

CLASSES = ("ham", "spam")
WORDS = ("the", "a", "match", "price", "win", "news", "today", "call", "you", "free", "never", "again", "film", "good")


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 2, 400)


@pytest.fixture
def texts(labels):
    """Each class has a word that it has more often, but that is no marker."""
    random = np.random.default_rng(1)
    return [
        " ".join([*random.choice(WORDS, 12), *(["free"] if label and random.random() < 0.6 else [])])
        for label in labels
    ]


def warnings(texts, labels, classes=CLASSES):
    inspection = Inspection()
    warn_of_markers(inspection, texts, labels, classes)
    return inspection.warnings


def test_texts_with_words_that_are_likelier_in_a_class_have_no_marker(texts, labels):
    assert not warnings(texts, labels)


@pytest.mark.parametrize(
    ("mark", "token"),
    [
        (lambda text: f"[SPAM] {text}", "[spam]"),
        (lambda text: f"LONDON (Reuters) - {text}", "(reuters)"),
        (lambda text: f"{text} unsubscribe", "unsubscribe"),
        (lambda text: text.replace(" ", " winner ", 1), "winner"),
    ],
)
def test_a_token_that_only_one_class_has_in_most_texts_is_a_marker(texts, labels, mark, token):
    marked = [mark(text) if label else text for text, label in zip(texts, labels, strict=True)]
    (warning,) = warnings(marked, labels, ("no", "yes"))
    assert f"'{token}' is in most texts of 'yes'" in warning or "'london' is in most texts of 'yes'" in warning


def test_the_first_word_of_some_questions_of_a_class_is_none(texts, labels):
    asked = [f"who {text}" if labels[place] and place % 3 else text for place, text in enumerate(texts)]
    assert not warnings(asked, labels)


def test_texts_that_hold_their_label_are_reported(texts, labels):
    marked = [f"{text} {CLASSES[label]}" for text, label in zip(texts, labels, strict=True)]
    (warning,) = warnings(marked, labels)
    assert warning.startswith("possible leak: 100% of the texts contain the name of their class and of no other")


def test_a_few_texts_prove_nothing():
    assert not warnings(["[SPAM] now", "hello", "[SPAM] buy", "good day"] * 3, np.array([1, 0, 1, 0] * 3))
