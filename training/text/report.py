"""The report of a classifier of texts: its plots, and what its card reads of the record."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import f1_score
from sklearn.preprocessing import normalize
from tokenizers import Tokenizer

from service.inference.manifest import MODEL
from service.tasks.text.reading import UNKNOWN, influence, read_text, without_each
from training.export.calibration import Floats
from training.export.figures import Evaluation
from training.report.plots import ACCENT, MEASURED, Curve, draw_confusion, draw_reliability, save_plot
from training.report.record import update_record
from training.text.learner import TextEvaluator
from training.text.tokenizer import encoded

CURVES = Curve("loss", "cross-entropy", training="cross_entropy"), Curve("accuracy", "accuracy")
_TOPICS_DRAWN, _TOPICS = 12, 8
_MISTAKES, _WORDS_PER_MISTAKE, _LONGEST_TEXT = 8, 5, 300
# A word in fewer texts has hardly been trained.
_FEWEST_TEXTS = 5
# How many times as frequent a word must be among the texts of a topic as among all texts.
_LIFT = 1.5
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
        axis.axvline(length, color=MEASURED, linewidth=1, label=f"longer texts are truncated to {length}")
        axis.set(xlabel="tokens", ylabel="training texts", title="Length of the training texts")
        axis.legend()

    save_plot(folder, "lengths.png", 6, 3.2, lambda axes: draw_lengths(axes[0]))
    save_plot(folder, "calibration.png", 9, 4, lambda axes: draw_reliability(axes, evaluation), 2)
    common = np.argsort(-np.bincount(evaluation.labels, minlength=len(data.classes)), kind="stable")[:_TOPICS_DRAWN]
    matrix, names = evaluation.confusion[np.ix_(common, common)], [data.classes[index] for index in common]
    title = "Test texts of the most common topics"
    save_plot(folder, "confusion.png", 6.6, 6.4, lambda axes: draw_confusion(axes[0], matrix, names, title))
    predicted = evaluation.probabilities.argmax(1)
    update_record(
        folder,
        weighted_f1=float(f1_score(evaluation.labels, predicted, average="weighted", zero_division=0)),
        known=float((np.concatenate(texts.test) != UNKNOWN).mean()),
        fits=float((lengths <= length).mean()),
        neighbours=[] if vectors is None else _neighbours(texts, vectors),
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


def _neighbours(texts: TextEvaluator, vectors: Floats) -> list[tuple[str, str, list[tuple[str, float]]]]:
    """For each of the most common classes its most informative word, and the words with the nearest embeddings.

    A word belongs to the class whose texts have it most often. Only words that are typical of a class are compared.
    """
    data = texts.data
    present = np.zeros((len(vectors), len(data.classes)))
    for ids, label in zip(texts.train, data.train.labels, strict=True):
        present[np.unique(ids), label] += 1
    present[:2] = 0  # padding and the unknown word
    of_class, having = np.bincount(data.train.labels, minlength=len(data.classes)), present.sum(1)
    common = np.argsort(-of_class, kind="stable")[:_TOPICS]
    topics = (present[:, common] / np.maximum(of_class[common], 1)).argmax(1)
    prior = (of_class / of_class.sum())[common][topics]
    fraction = present[np.arange(len(present)), common[topics]] / np.maximum(having, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(having * fraction * np.log(fraction / prior))
    # Of a class with most of the texts no word can be so much more frequent.
    enough = np.minimum(_LIFT * prior, (1 + prior) / 2)
    typical = np.flatnonzero((having >= min(_FEWEST_TEXTS, having.max())) & (fraction >= enough))
    words = typical[np.argsort(-information[typical], kind="stable")]
    names = [str(texts.tokenizer.id_to_token(int(index))) for index in words]
    directions = normalize(vectors[words]) if len(words) else vectors[words]
    rows = []
    for rank, label in enumerate(common):
        for word in np.flatnonzero(topics[words] == rank)[:1]:
            similarity = directions @ directions[word]
            near = [other for other in np.argsort(-similarity) if other != word and similarity[other] >= _NEAREST]
            shown = [(names[other], float(similarity[other])) for other in near[:6]]
            if shown:
                rows.append((data.classes[label], names[word], shown))
    return rows
