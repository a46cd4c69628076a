"""The report of a classifier of texts: its plots, and what its card reads of the record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.manifold import TSNE
from sklearn.metrics import f1_score
from sklearn.preprocessing import normalize
from tokenizers import Tokenizer

from service.inference.manifest import MODEL
from service.tasks.palette import class_colour
from service.tasks.text.reading import UNKNOWN, influence, read_text, without_each
from training.export.calibration import Floats
from training.export.figures import Evaluation
from training.report.curves import Curve
from training.report.plots import ACCENT, MEASURED, WIDTH, draw_confusion, draw_reliability, save_plot
from training.report.record import REPORT, update_record
from training.text.learner import TextEvaluator
from training.text.tokenizer import encoded

CURVES = Curve("loss", "cross-entropy", training="cross_entropy"), Curve("accuracy", "accuracy")
_TOPICS_DRAWN, _TOPICS = 12, 8
_MISTAKES, _WORDS_PER_MISTAKE, _LONGEST_TEXT = 8, 5, 300
# A word in fewer texts has hardly been trained.
_FEWEST_TEXTS = 5
# How many times as frequent a word must be in the texts of a topic as in all others: common words are of no topic.
_LIFT = 8
# Of each topic in the map.
_WORDS_DRAWN = 8
_MARKERS = "os^DvPX*"
# Fewer words make no map.
_FEWEST_DRAWN = 8
# Neighbours that are no nearer than this are neighbours by chance.
_NEAREST = 0.35


def write_report(folder: Path, evaluation: Evaluation, texts: TextEvaluator, vectors: Floats | None) -> None:
    """Draws and records what was measured on the test split of the graph in `folder`.

    `vectors` are word embeddings, shape (words, embedding dimension); None with a pretrained backbone.
    """
    data, length, whole = texts.data, texts.length, Tokenizer.from_str(texts.tokenizer.to_str())
    whole.no_truncation()
    lengths = np.array([len(encoding.ids) for encoding in encoded(whole, data.train.texts)])

    def draw_lengths(axis: Axes) -> None:
        axis.hist(lengths, bins=50, color=ACCENT)
        label = f"{(lengths > length).mean():.1%} are longer than {length}\nand are truncated there"
        axis.axvline(length, color=MEASURED, linewidth=1.5, label=label)
        axis.set(xlabel="tokens", ylabel="training texts")
        axis.legend()

    save_plot(folder, "lengths.png", WIDTH, 3, lambda axes: draw_lengths(axes[0]))
    save_plot(folder, "calibration.png", WIDTH, 3.1, lambda axes: draw_reliability(axes, evaluation), 2)
    common = np.argsort(-np.bincount(evaluation.labels, minlength=len(data.classes)), kind="stable")[:_TOPICS_DRAWN]
    matrix, names = evaluation.confusion[np.ix_(common, common)], [data.classes[index] for index in common]
    title = "Test texts of the most common topics"
    size = max(4.0, 1.8 + 0.36 * len(names))
    save_plot(folder, "confusion.png", size, size, lambda axes: draw_confusion(axes[0], matrix, names, title))
    predicted = evaluation.probabilities.argmax(1)
    (folder / REPORT / "words.png").unlink(missing_ok=True)
    typical = None if vectors is None else _typical_words(texts, vectors)
    if typical and len(typical.names) > _FEWEST_DRAWN:
        save_plot(folder, "words.png", WIDTH, 6, lambda axes: _draw_words(axes[0], typical))
    update_record(
        folder,
        weighted_f1=float(f1_score(evaluation.labels, predicted, average="weighted", zero_division=0)),
        known=float((np.concatenate(texts.test) != UNKNOWN).mean()),
        fits=float((lengths <= length).mean()),
        neighbours=_neighbours(typical) if typical else [],
        mistakes=_mistakes(folder / MODEL, texts, evaluation),
    )


def _mistakes(graph: Path, texts: TextEvaluator, evaluation: Evaluation) -> list[dict[str, Any]]:
    """The misclassified test texts of the highest confidence, and the words whose removal changes the answer most."""
    predicted, confidence = evaluation.probabilities.argmax(1), evaluation.probabilities.max(1)
    wrong = np.flatnonzero(predicted != evaluation.labels)
    rows = []
    for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES].tolist():
        text = texts.data.test.texts[index]
        reading = read_text(texts.tokenizer, text, texts.length)
        if not reading.tokens:
            continue
        words = influence(
            text, reading, evaluation.probabilities[index], texts.answers(graph, without_each(reading.ids))
        )
        strongest = sorted(words, key=lambda word: -abs(float(word["weight"])))[:_WORDS_PER_MISTAKE]
        rows.append({
            "true": texts.data.classes[evaluation.labels[index]],
            "predicted": texts.data.classes[predicted[index]],
            "confidence": float(confidence[index]),
            "text": text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} …",
            "words": [(str(word["word"]), float(word["weight"])) for word in strongest],
        })  # fmt: skip
    return rows


@dataclass(frozen=True, slots=True)
class _Words:
    """The words that are typical of the most common topics, the most informative first.

    Attributes:
        topics: the names of these topics.
        names: the words.
        of_topic: the index in `topics` of each word, shape (words,).
        directions: their embeddings, of length 1, shape (words, embedding dimension).
    """

    topics: list[str]
    names: list[str]
    of_topic: npt.NDArray[np.int64]
    directions: Floats


def _typical_words(texts: TextEvaluator, vectors: Floats) -> _Words:
    """A word is typical of the topic whose texts have it most often, if other texts have it much more rarely."""
    data = texts.data
    present = np.zeros((len(vectors), len(data.classes)))
    for ids, label in zip(texts.train, data.train.labels, strict=True):
        present[np.unique(ids), label] += 1
    present[:2] = 0  # padding and the unknown word
    of_class, having = np.bincount(data.train.labels, minlength=len(data.classes)), present.sum(1)
    common = np.argsort(-of_class, kind="stable")[:_TOPICS]
    topics = (present[:, common] / np.maximum(of_class[common], 1)).argmax(1)
    own, size = present[np.arange(len(present)), common[topics]], of_class[common][topics]
    rate, elsewhere = own / np.maximum(size, 1), (having - own) / np.maximum(of_class.sum() - size, 1)
    fraction, prior = own / np.maximum(having, 1), size / of_class.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(own * np.log(fraction / prior))
    is_typical = (having >= min(_FEWEST_TEXTS, having.max())) & (having > 0) & (rate >= _LIFT * elsewhere)
    typical = np.flatnonzero(is_typical)
    words = typical[np.argsort(-information[typical], kind="stable")]
    return _Words(
        topics=[data.classes[label] for label in common],
        names=[str(texts.tokenizer.id_to_token(int(index))) for index in words],
        of_topic=topics[words],
        directions=normalize(vectors[words]) if len(words) else vectors[words],
    )


def _neighbours(words: _Words) -> list[tuple[str, str, list[tuple[str, float]]]]:
    """For each topic its most informative word, and the typical words with the nearest embeddings."""
    rows = []
    for rank, topic in enumerate(words.topics):
        for word in np.flatnonzero(words.of_topic == rank)[:1]:
            similarity = words.directions @ words.directions[word]
            near = [other for other in np.argsort(-similarity) if other != word and similarity[other] >= _NEAREST]
            shown = [(words.names[other], float(similarity[other])) for other in near[:6]]
            if shown:
                rows.append((topic, words.names[word], shown))
    return rows


def _draw_words(axis: Axes, words: _Words) -> None:
    """The most informative words of each topic on a plane, each near its mark, or left out where there is no room."""
    drawn = np.concatenate([np.flatnonzero(words.of_topic == rank)[:_WORDS_DRAWN] for rank in range(_TOPICS)])
    perplexity = min(10.0, max(2.0, len(drawn) / 4))
    projection: Any = TSNE(2, random_state=0, init="pca", metric="cosine", perplexity=perplexity)
    plane = projection.fit_transform(words.directions[drawn])
    plane = (plane - plane.min(0)) / np.maximum(np.ptp(plane, 0), 1e-9)
    for rank, topic in enumerate(words.topics):
        mine = words.of_topic[drawn] == rank
        style: dict[str, Any] = {"color": class_colour(rank), "marker": _MARKERS[rank], "label": topic}
        if mine.any():
            axis.scatter(plane[mine, 0], plane[mine, 1], s=30, edgecolor=MEASURED, linewidth=0.4, **style)
    taken = [(x, y, 0.01) for x, y in plane]  # the middles and half the widths of marks and words
    for index in np.argsort(drawn):  # the most informative words first
        (x, y), name = plane[index], words.names[drawn[index]]
        half = 0.0095 * len(name) + 0.005
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            place = x + right * (half + 0.015), y + up * 0.027
            if all(abs(place[0] - a) > half + b or abs(place[1] - c) > 0.025 for a, c, b in taken):
                axis.text(*place, name, ha="center", va="center", fontsize=9)
                taken.append((*place, half))
                break
    axis.set(xlim=(-0.1, 1.1), ylim=(-0.03, 1.03))
    axis.axis("off")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, columnspacing=1, handletextpad=0.2)
