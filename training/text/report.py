"""The model card of a text classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.manifold import TSNE
from sklearn.metrics import f1_score
from tokenizers import Tokenizer

from service.inference.manifests.classification import TextManifest
from service.tasks.text import UNKNOWN
from training.evaluate import Evaluation
from training.reporting import (
    draw_confusion,
    draw_curves,
    draw_reliability,
    figures,
    label_set_table,
    provenance,
    save_plot,
    table,
    training_section,
)
from training.text.data import TextData

_MAPPED = 250
_CONFUSED = 12
_MISTAKES = 8
_NEIGHBOURS = 6
_WORDS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured beside the evaluation.

    Attributes:
        tokenizer: of the version.
        vectors: of the words, shape (words, numbers).
        lengths: words of each training text.
        baseline: test accuracy of the linear baseline.
        moved: for the mistakes, the words that moved the answer most, with their weights.
        study: accuracy on validation over the size of the vocabulary and over the length that is read.
    """

    tokenizer: Tokenizer
    vectors: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    baseline: float
    moved: dict[int, list[tuple[str, float]]]
    study: list[dict[str, Any]]


def worst_mistakes(evaluation: Evaluation) -> list[int]:
    """The test texts that the model was surest about and wrong."""
    wrong = np.flatnonzero(evaluation.probabilities.argmax(1) != evaluation.labels)
    order = np.argsort(-evaluation.probabilities[wrong].max(1), kind="stable")
    return [int(index) for index in wrong[order][:_MISTAKES]]


def write_report(
    folder: Path,
    manifest: TextManifest,
    evaluation: Evaluation,
    data: TextData,
    findings: Findings,
    history: Sequence[dict[str, float]],
    onnx_difference: float,
) -> None:
    """Writes `README.md` and the plots it shows into `folder`.

    Args:
        folder: is made where it does not exist.
        manifest: of the version.
        evaluation: on the test split.
        data: for the mistakes' texts.
        findings: what else was measured.
        history: a row for each epoch.
        onnx_difference: the largest difference of the exported graph from PyTorch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_plot(folder / "learning-curves.png", 7, 2.8, 2, lambda axes: _history(axes, history))
    save_plot(folder / "lengths.png", 5, 2.6, 1, lambda axes: _lengths(axes[0], findings, manifest.max_length))
    save_plot(folder / "calibration.png", 7, 3.2, 2, lambda axes: draw_reliability(axes, evaluation))
    commonest = np.argsort(-np.bincount(evaluation.labels, minlength=len(data.classes)), kind="stable")[:_CONFUSED]
    names = [data.classes[index] for index in commonest]
    matrix = evaluation.confusion[np.ix_(commonest, commonest)]
    save_plot(folder / "confusion.png", 5.4, 5, 1, lambda axes: draw_confusion(axes[0], matrix, names))
    words = [str(findings.tokenizer.id_to_token(index)) for index in range(len(findings.vectors))]
    save_plot(folder / "words.png", 8, 7, 1, lambda axes: _map(axes[0], findings.vectors, words))
    (folder / "README.md").write_text(_card(manifest, evaluation, data, findings, words, onnx_difference))


def _card(
    manifest: TextManifest,
    evaluation: Evaluation,
    data: TextData,
    findings: Findings,
    words: Sequence[str],
    onnx_difference: float,
) -> str:
    metrics, calibration = manifest.metrics, manifest.calibration
    answers = evaluation.probabilities.argmax(1)
    weighted = f1_score(evaluation.labels, answers, average="weighted", zero_division=0)
    error = np.sqrt(metrics.accuracy * (1 - metrics.accuracy) / len(data.test))
    covered = [encoding.ids for encoding in findings.tokenizer.encode_batch(list(data.test.texts))]
    known = 1 - sum(ids.count(UNKNOWN) for ids in covered) / max(1, sum(map(len, covered)))
    rows = sorted(metrics.per_class, key=lambda row: -row.support)
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}. Input: int64 token ids that `tokenizer.json` makes of a text, 0 as padding at the "
        "end. Output: calibrated probabilities.",
        f"**Test accuracy {metrics.accuracy:.4f}** on the {len(data.test)} test texts of {data.name} (validation "
        f"{metrics.validation_accuracy:.4f}); F1 {metrics.macro_f1:.4f} as the mean of the classes, {weighted:.4f} "
        f"weighted by their size. One standard error of the accuracy is {error:.4f}. The linear baseline (tf-idf of "
        f"words and word pairs, support vector machine) reaches {findings.baseline:.4f}.",
        "## How text is read",
        f"Lower case, letters{' and digits' if manifest.training.settings.get('digits') else ''} alone, split at "
        "everything else; the "
        f"{manifest.words - 2:,} most frequent words of the training texts have a number of their own, which covers "
        f"{known:.1%} of the words of the test texts; a text is read up to its word {manifest.max_length}, "
        f"{(findings.lengths <= manifest.max_length).mean():.1%} of the training texts to their end.",
        "![Lengths of the training texts](lengths.png)",
        *_study_section(findings.study),
        "## Per topic",
        table(
            ("topic", "precision", "recall", "F1", "test texts"),
            [(row.label, *figures(row.precision, row.recall, row.f1), row.support) for row in rows],
        ),
        f"Confusion among the {_CONFUSED} commonest:",
        "![Confusion matrix](confusion.png)",
        "## Are the probabilities right?",
        f"The expected calibration error (15 bins) is {calibration.ece_before:.4f} as trained and "
        f"**{calibration.ece_after:.4f}** after dividing the logits by the temperature {calibration.temperature:.3f}.",
        "![Reliability](calibration.png)",
        label_set_table(manifest.conformal),
        "## What the word vectors learned",
        f"The {_MAPPED} most frequent words on a plane (t-SNE):",
        "![Map of words](words.png)",
        _neighbours(findings.vectors, words),
        "## Mistakes that it was sure about",
        *_mistakes(evaluation, data, findings),
        *training_section(manifest, f"the {len(data.validation)} validation texts", manifest.training.seconds),
        *provenance(manifest, f"{onnx_difference:.1g}"),
    ]
    return "\n\n".join(parts) + "\n"


def _study_section(study: Sequence[dict[str, Any]]) -> list[str]:
    if not study:
        return []
    return [
        "What the size of the vocabulary and the length that is read buy (shorter trainings of one reader, accuracy on "
        "validation; the rows compare with each other):",
        table(
            ("words", "length", "validation accuracy"),
            [(f"{row['words']:,}", row["length"], f"{row['accuracy']:.4f}") for row in study],
        ),
    ]


def _neighbours(vectors: npt.NDArray[np.float32], words: Sequence[str]) -> str:
    """The nearest words of some frequent ones, by the cosine of their vectors."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    frequent = range(2, min(2 + 40 * _WORDS_SHOWN, len(words)))
    shown = [index for index in frequent if len(words[index]) > 3][:: max(1, len(frequent) // _WORDS_SHOWN)]
    rows = []
    for index in shown[:_WORDS_SHOWN]:
        order = [other for other in np.argsort(-(unit @ unit[index])) if other not in (index, 0, 1)]
        rows.append((words[index], ", ".join(words[other] for other in order[:_NEIGHBOURS])))
    return table(("word", "nearest"), rows)


def _mistakes(evaluation: Evaluation, data: TextData, findings: Findings) -> list[str]:
    parts = []
    for index, moved in findings.moved.items():
        answer = int(evaluation.probabilities[index].argmax())
        text = data.test.texts[index]
        shown = text if len(text) <= 300 else text[:300] + " …"
        words = ", ".join(f"{word} {weight:+.2f}" for word, weight in moved)
        parts.append(
            f"- *{data.classes[evaluation.labels[index]]}* taken for *{data.classes[answer]}* "
            f"({evaluation.probabilities[index, answer]:.2f}): {shown}\n\n  What moved it (log-odds that it would "
            f"lose without the word): {words}"
        )
    return parts or ["None."]


def _history(axes: Sequence[Axes], history: Sequence[dict[str, float]]) -> None:
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        draw_curves(axis, history, {f"train_{name}": "training", f"validation_{name}": "validation"}, name)


def _lengths(axis: Axes, findings: Findings, cut: int) -> None:
    axis.hist(findings.lengths, bins=50)
    axis.axvline(cut, color="tab:red", linewidth=1, label=f"read up to {cut}")
    axis.set(xlabel="words", ylabel="training texts")
    axis.legend(frameon=False)


def _map(axis: Axes, vectors: npt.NDArray[np.float32], words: Sequence[str]) -> None:
    chosen = slice(2, 2 + _MAPPED)
    some = vectors[chosen]
    perplexity = min(30.0, max(2.0, len(some) / 4))
    plane: Any = TSNE(2, random_state=0, init="pca", metric="cosine", perplexity=perplexity).fit_transform(some)
    axis.scatter(plane[:, 0], plane[:, 1], s=2, color="0.8")
    for (x, y), word in zip(plane, words[chosen], strict=True):
        axis.text(x, y, word, fontsize=5.5, ha="center", va="center")
    axis.axis("off")
