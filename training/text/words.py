"""What the word embeddings have learnt: a map of the words that say most about the topic, and their neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.manifold import TSNE
from tokenizers import Tokenizer

from service.tasks.palette import class_colour
from training.markdown import table
from training.plots import SMALL, TRAINING
from training.text.data import TextData

_MAPPED = 300
# A word in fewer texts has hardly been trained.
_FEWEST_TEXTS = 5
_TOPICS = 10
_NEIGHBOURS = 6
# Neighbours that are no nearer than this are neighbours by chance.
_NEAREST = 0.35

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Words:
    """Words of the training texts that are in enough of them, those that say most about the topic first.

    Attributes:
        names: the words.
        vectors: their embeddings of length 1, shape (words, embedding dimension).
        topics: for each the class in whose texts it is the most frequent.
        common: the most common classes, the most common first.
    """

    names: tuple[str, ...]
    vectors: Floats
    topics: npt.NDArray[np.int64]
    common: tuple[int, ...]


def choose_words(tokenizer: Tokenizer, vectors: Floats, data: TextData) -> Words:
    """The words of the vocabulary in the order of the information that their presence gives about the class.

    Args:
        tokenizer: of the version.
        vectors: word embeddings, shape (words, embedding dimension).
        data: its training texts are counted.
    """
    present = np.zeros((len(vectors), len(data.classes)))
    for encoding, label in zip(tokenizer.encode_batch(list(data.train.texts)), data.train.labels, strict=True):
        present[np.unique(encoding.ids), label] += 1
    present[:2] = 0  # padding and the unknown word
    texts = present.sum(1)
    prior = np.bincount(data.train.labels, minlength=len(data.classes)) / len(data.train)
    share = present / np.maximum(texts, 1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        information = texts * np.nansum(np.where(share > 0, share * np.log(share / prior), 0), axis=1)
    known = np.flatnonzero(texts >= min(_FEWEST_TEXTS, texts.max()))
    order = known[np.argsort(-information[known], kind="stable")]
    frequency = present[order] / np.maximum(prior * len(data.train), 1)
    chosen = vectors[order]
    return Words(
        tuple(str(tokenizer.id_to_token(int(index))) for index in order),
        chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-9),
        frequency.argmax(1),
        tuple(int(index) for index in np.argsort(-prior, kind="stable")[:_TOPICS]),
    )


def neighbour_table(words: Words, classes: Sequence[str]) -> list[str]:
    """For the most telling word of each common topic its nearest neighbours, if it has any that are near."""
    rows = []
    for topic in words.common:
        for index in np.flatnonzero(words.topics == topic)[:1]:
            similarity = words.vectors @ words.vectors[index]
            near = [other for other in np.argsort(-similarity) if other != index and similarity[other] >= _NEAREST]
            if near:
                shown = ", ".join(f"{words.names[other]} {similarity[other]:.2f}" for other in near[:_NEIGHBOURS])
                rows.append((classes[topic], words.names[index], shown))
    if not rows:
        return []
    return ["Nearest neighbours by cosine similarity:", table(("topic", "word", "neighbours"), rows)]


def draw_map(axis: Axes, words: Words, classes: Sequence[str]) -> None:
    """Draws words as a map in which near words are similar; where words would overlap, a dot stands for the lesser."""
    some = words.vectors[:_MAPPED]
    perplexity = min(20.0, max(2.0, len(some) / 4))
    plane: Any = TSNE(2, random_state=0, init="pca", metric="cosine", perplexity=perplexity).fit_transform(some)
    axis.set(xlim=(plane[:, 0].min(), plane[:, 0].max()), ylim=(plane[:, 1].min(), plane[:, 1].max()))
    axis.axis("off")
    ranks = {topic: rank for rank, topic in enumerate(words.common)}
    colours = [class_colour(ranks[topic]) if topic in ranks else TRAINING for topic in words.topics[:_MAPPED]]
    axis.scatter(plane[:, 0], plane[:, 1], s=4, color=colours)
    for rank, topic in enumerate(words.common):
        axis.scatter([], [], color=class_colour(rank), label=classes[topic])
    axis.scatter([], [], color=TRAINING, label="another topic")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="most frequent in")
    boxes: list[Any] = []
    for (x, y), word, colour in zip(plane, words.names, colours, strict=False):
        text = axis.text(x, y, word, fontsize=SMALL, ha="center", va="center", color=colour)
        box = text.get_window_extent()
        if box.count_overlaps(boxes):
            text.remove()
        else:
            boxes.append(box)
