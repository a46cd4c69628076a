"""What the word embeddings have learnt: a map of the words that say most about the topic, and their neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.manifold import TSNE
from tokenizers import Tokenizer

from service.tasks.palette import COLOURS
from training.report.markdown import table
from training.report.plots import SMALL
from training.text.data import TextData
from training.text.tokenizer import encoded

# What can be read on white, and is not the colour of something else.
_COLOURS = tuple(colour for colour in COLOURS if colour not in ("#F0E442", "#7F7F7F"))
_TOPICS = len(_COLOURS)
_MAPPED_OF_A_TOPIC = 35
# A word in fewer texts has hardly been trained.
_FEWEST_TEXTS = 5
# How many times as frequent a word must be among the texts of a topic as among all texts.
_LIFT = 1.5
_NEIGHBOURS = 6
# With fewer there is nothing to see.
_FEWEST_MAPPED = 5
# Neighbours that are no nearer than this are neighbours by chance.
_NEAREST = 0.35

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Words:
    """Words that are typical of a topic, those that say most about it first.

    Attributes:
        names: the words.
        vectors: their embeddings of length 1, shape (words, embedding dimension).
        topics: for each the index of its topic in `common`.
        common: the most common classes, the most common first.
    """

    names: tuple[str, ...]
    vectors: Floats
    topics: npt.NDArray[np.int64]
    common: tuple[int, ...]


def choose_words(tokenizer: Tokenizer, vectors: Floats, data: TextData) -> Words:
    """The words that are typical of one of the most common classes, by the information that their presence gives.

    Args:
        tokenizer: of the version.
        vectors: word embeddings, shape (words, embedding dimension).
        data: its training texts are counted.
    """
    present = np.zeros((len(vectors), len(data.classes)))
    for encoding, label in zip(encoded(tokenizer, data.train.texts), data.train.labels, strict=True):
        present[list(set(encoding.ids)), label] += 1
    present[:2] = 0  # padding and the unknown word
    of_class, texts = np.bincount(data.train.labels, minlength=len(data.classes)), present.sum(1)
    common = np.argsort(-of_class, kind="stable")[:_TOPICS]
    topics = (present[:, common] / np.maximum(of_class[common], 1)).argmax(1)
    prior = (of_class / of_class.sum())[common][topics]
    share = present[np.arange(len(present)), common[topics]] / np.maximum(texts, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(texts * share * np.log(share / prior))
    # Of a class with most of the texts no word can be so much more frequent.
    enough = np.minimum(_LIFT * prior, (1 + prior) / 2)
    typical = np.flatnonzero((texts >= min(_FEWEST_TEXTS, texts.max())) & (share >= enough))
    order = typical[np.argsort(-information[typical], kind="stable")]
    chosen = vectors[order]
    return Words(
        tuple(str(tokenizer.id_to_token(int(index))) for index in order),
        chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-9),
        topics[order],
        tuple(int(index) for index in common),
    )


def neighbour_table(words: Words, classes: Sequence[str]) -> list[str]:
    """For the most telling word of each common topic its nearest neighbours, if it has any that are near."""
    rows = []
    for rank, topic in enumerate(words.common):
        for index in np.flatnonzero(words.topics == rank)[:1]:
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
    ranks = range(len(words.common))
    mapped = np.sort(np.concatenate([np.flatnonzero(words.topics == rank)[:_MAPPED_OF_A_TOPIC] for rank in ranks]))
    axis.axis("off")
    for rank, topic in enumerate(words.common):
        axis.scatter([], [], color=_COLOURS[rank], label=classes[topic])
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="typical of")
    axis.set_title("Near words mean something similar for the topic")
    if len(mapped) < _FEWEST_MAPPED:
        return
    perplexity = min(20.0, (len(mapped) - 1) / 4)
    tsne = TSNE(2, random_state=0, init="pca", metric="cosine", perplexity=perplexity)
    plane: Any = tsne.fit_transform(words.vectors[mapped])
    axis.set(xlim=(plane[:, 0].min(), plane[:, 0].max()), ylim=(plane[:, 1].min(), plane[:, 1].max()))
    colours = [_COLOURS[rank] for rank in words.topics[mapped]]
    axis.scatter(plane[:, 0], plane[:, 1], s=4, color=colours)
    boxes: list[Any] = []
    for (x, y), index, colour in zip(plane, mapped, colours, strict=True):
        text = axis.text(x, y, words.names[index], fontsize=SMALL, ha="center", va="center", color=colour)
        box = text.get_window_extent()
        if box.count_overlaps(boxes):
            text.remove()
        else:
            boxes.append(box)
