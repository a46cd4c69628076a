from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from training.text.report import _draw_words, _neighbours, _typical_words

# Ids 0 and 1 are padding and the unknown word.
NAMES = ["", "?", "the", "oil", "crude", "wheat", "corn", "he"]


@pytest.fixture
def words():
    """Twenty texts of each of two topics: all have "the", most of one topic and some of the other "he"."""
    texts = [[2, 3, 4] + [7] * (i < 15) for i in range(20)] + [[2, 5, 6] + [7] * (i < 4) for i in range(20)]
    labels = np.repeat([0, 1], 20)
    data = SimpleNamespace(classes=("crude", "grain"), train=SimpleNamespace(labels=labels))
    evaluator = SimpleNamespace(
        data=data,
        train=[np.array(ids) for ids in texts],
        tokenizer=SimpleNamespace(id_to_token=NAMES.__getitem__),
    )
    vectors = np.eye(8, dtype=np.float32)
    vectors[4], vectors[6] = vectors[3] + 0.1 * vectors[4], vectors[5] + 0.1 * vectors[6]
    return _typical_words(evaluator, vectors)


def test_words_that_all_topics_have_are_typical_of_none(words):
    assert words.topics == ["crude", "grain"]
    assert dict(zip(words.names, words.of_topic.tolist(), strict=True)) == {"oil": 0, "crude": 0, "wheat": 1, "corn": 1}


def test_neighbours_are_the_nearest_typical_words(words):
    near = {(topic, word): [name for name, _ in others] for topic, word, others in _neighbours(words)}
    assert near == {("crude", "oil"): ["crude"], ("grain", "wheat"): ["corn"]}


def test_the_map_has_a_mark_of_its_own_for_each_topic(words):
    axis = Figure().subplots()
    _draw_words(axis, words)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["crude", "grain"]
    assert {text.get_text() for text in axis.texts} <= set(words.names)
    assert axis.texts
