"""The nearest neighbours, among the word embeddings, of the words that are most informative about the topic."""

import numpy as np
import numpy.typing as npt
from sklearn.preprocessing import normalize
from tokenizers import Tokenizer

from training.text.data import TextData
from training.text.tokenizer import encoded

_TOPICS = 8
# A word in fewer texts has hardly been trained.
_FEWEST_TEXTS = 5
# How many times as frequent a word must be among the texts of a topic as among all texts.
_LIFT = 1.5
_NEIGHBOURS = 6
# Neighbours that are no nearer than this are neighbours by chance.
_NEAREST = 0.35

Floats = npt.NDArray[np.float32]
Neighbours = list[tuple[str, str, list[tuple[str, float]]]]


def neighbours(tokenizer: Tokenizer, vectors: Floats, data: TextData) -> Neighbours:
    """For each of the most common classes its most informative word, and the words with the nearest embeddings.

    A word belongs to the class whose texts have it most often. Only words that are typical of a class are compared.

    Args:
        tokenizer: of the version.
        vectors: word embeddings, shape (words, embedding dimension).
        data: its training texts are counted.

    Returns:
        Class, word, and its neighbours with their cosine similarities, the nearest first.
    """
    present = np.zeros((len(vectors), len(data.classes)))
    for encoding, label in zip(encoded(tokenizer, data.train.texts), data.train.labels, strict=True):
        present[list(set(encoding.ids)), label] += 1
    present[:2] = 0  # padding and the unknown word
    of_class, texts = np.bincount(data.train.labels, minlength=len(data.classes)), present.sum(1)
    common = np.argsort(-of_class, kind="stable")[:_TOPICS]
    topics = (present[:, common] / np.maximum(of_class[common], 1)).argmax(1)
    prior = (of_class / of_class.sum())[common][topics]
    fraction = present[np.arange(len(present)), common[topics]] / np.maximum(texts, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(texts * fraction * np.log(fraction / prior))
    # Of a class with most of the texts no word can be so much more frequent.
    enough = np.minimum(_LIFT * prior, (1 + prior) / 2)
    typical = np.flatnonzero((texts >= min(_FEWEST_TEXTS, texts.max())) & (fraction >= enough))
    words = typical[np.argsort(-information[typical], kind="stable")]
    names = [str(tokenizer.id_to_token(int(index))) for index in words]
    directions = normalize(vectors[words]) if len(words) else vectors[words]
    rows = []
    for rank, label in enumerate(common):
        for word in np.flatnonzero(topics[words] == rank)[:1]:
            similarity = directions @ directions[word]
            near = [other for other in np.argsort(-similarity) if other != word and similarity[other] >= _NEAREST]
            shown = [(names[other], float(similarity[other])) for other in near[:_NEIGHBOURS]]
            if shown:
                rows.append((data.classes[label], names[word], shown))
    return rows
