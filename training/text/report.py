"""The model card of a text classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from sklearn.manifold import TSNE
from sklearn.metrics import f1_score

from service.tasks.text.manifest import TextManifest
from service.tasks.text.reading import UNKNOWN
from training.evaluation import Evaluation
from training.markdown import figures, label_set_table, provenance, table, training_section
from training.plots import draw_confusion, draw_curves, draw_reliability, save_plot
from training.text.data import TextData
from training.text.evaluation import Findings

_MAPPED = 250
_CONFUSED = 12
_NEIGHBOURS = 6
_WORDS_SHOWN = 10


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
        folder: is made if it does not exist.
        manifest: of the version.
        evaluation: on the test split.
        data: for the texts of the mistakes.
        findings: what was measured in addition.
        history: a row for each epoch.
        onnx_difference: the largest difference of the exported graph from PyTorch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_plot(folder / "learning-curves.png", 7, 2.8, 2, lambda axes: _history(axes, history))
    save_plot(folder / "lengths.png", 5, 2.6, 1, lambda axes: _lengths(axes[0], findings, manifest.max_length))
    save_plot(folder / "calibration.png", 7, 3.2, 2, lambda axes: draw_reliability(axes, evaluation))
    most_common = np.argsort(-np.bincount(evaluation.labels, minlength=len(data.classes)), kind="stable")[:_CONFUSED]
    names = [data.classes[index] for index in most_common]
    matrix = evaluation.confusion[np.ix_(most_common, most_common)]
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
    predicted = evaluation.probabilities.argmax(1)
    weighted = f1_score(evaluation.labels, predicted, average="weighted", zero_division=0)
    error = np.sqrt(metrics.accuracy * (1 - metrics.accuracy) / len(data.test))
    covered = [encoding.ids for encoding in findings.tokenizer.encode_batch(list(data.test.texts))]
    known = 1 - sum(ids.count(UNKNOWN) for ids in covered) / max(1, sum(map(len, covered)))
    rows = sorted(metrics.per_class, key=lambda row: -row.support)
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}. Input: int64 token ids from `tokenizer.json`, padded with 0 at the end. "
        "Output: calibrated probabilities.",
        f"**Test accuracy {metrics.accuracy:.4f}** on the {len(data.test)} test texts of {data.name} (validation "
        f"{metrics.validation_accuracy:.4f}); macro F1 {metrics.macro_f1:.4f}, weighted F1 {weighted:.4f}. "
        f"One standard error of the accuracy is {error:.4f}. The linear baseline (tf-idf of words and word pairs, "
        f"support vector machine) reaches {findings.baseline:.4f}.",
        "## Tokenisation",
        f"Words are runs of letters{' and digits' if manifest.training.settings.get('digits') else ''} in lower case. "
        f"The vocabulary holds the {manifest.words - 2:,} most frequent words of the training texts, which covers "
        f"{known:.1%} of the words of the test texts. Texts are truncated to {manifest.max_length} words; "
        f"{(findings.lengths <= manifest.max_length).mean():.1%} of the training texts are no longer.",
        "![Lengths of the training texts](lengths.png)",
        *_study_section(findings.study),
        "## Per topic",
        table(
            ("topic", "precision", "recall", "F1", "test texts"),
            [(row.label, *figures(row.precision, row.recall, row.f1), row.support) for row in rows],
        ),
        f"Confusion matrix of the {_CONFUSED} most common topics:",
        "![Confusion matrix](confusion.png)",
        "## Calibration",
        f"The expected calibration error (15 bins) is {calibration.ece_before:.4f} as trained and "
        f"**{calibration.ece_after:.4f}** after dividing the logits by the temperature {calibration.temperature:.3f}.",
        "![Reliability](calibration.png)",
        label_set_table(manifest.conformal),
        "## Word embeddings",
        f"The {_MAPPED} most frequent words, projected by t-SNE:",
        "![Map of words](words.png)",
        _neighbours(findings.vectors, words),
        "## The most confident mistakes",
        *_mistakes(evaluation, data, findings),
        *training_section(manifest, f"the {len(data.validation)} validation texts", manifest.training.seconds),
        *provenance(manifest, f"{onnx_difference:.1g}"),
    ]
    return "\n\n".join(parts) + "\n"


def _study_section(study: Sequence[dict[str, Any]]) -> list[str]:
    if not study:
        return []
    return [
        "The effect of the size of the vocabulary and of the length that texts are truncated to (shorter training "
        "runs of one encoder; the rows are comparable with each other, not with the figures above):",
        table(
            ("words", "length", "validation accuracy"),
            [(f"{row['words']:,}", row["length"], f"{row['accuracy']:.4f}") for row in study],
        ),
    ]


def _neighbours(vectors: npt.NDArray[np.float32], words: Sequence[str]) -> str:
    """The nearest neighbours of some frequent words, by cosine similarity."""
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    frequent = range(2, min(2 + 40 * _WORDS_SHOWN, len(words)))
    shown = [index for index in frequent if len(words[index]) > 3][:: max(1, len(frequent) // _WORDS_SHOWN)]
    rows = []
    for index in shown[:_WORDS_SHOWN]:
        order = [other for other in np.argsort(-(unit @ unit[index])) if other not in (index, 0, 1)]
        rows.append((words[index], ", ".join(words[other] for other in order[:_NEIGHBOURS])))
    return table(("word", "nearest neighbours"), rows)


def _mistakes(evaluation: Evaluation, data: TextData, findings: Findings) -> list[str]:
    parts = []
    for index, influences in findings.influences.items():
        predicted = int(evaluation.probabilities[index].argmax())
        text = data.test.texts[index]
        shown = text if len(text) <= 300 else text[:300] + " …"
        words = ", ".join(f"{word} {weight:+.2f}" for word, weight in influences)
        parts.append(
            f"- *{data.classes[evaluation.labels[index]]}* taken for *{data.classes[predicted]}* "
            f"({evaluation.probabilities[index, predicted]:.2f}): {shown}\n\n  Most influential words (log-odds that "
            f"the prediction would lose without the word): {words}"
        )
    return parts or ["None."]


def _history(axes: Sequence[Axes], history: Sequence[dict[str, float]]) -> None:
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        draw_curves(axis, history, {f"train_{name}": "training", f"validation_{name}": "validation"}, name)


def _lengths(axis: Axes, findings: Findings, cut: int) -> None:
    axis.hist(findings.lengths, bins=50)
    axis.axvline(cut, color="tab:red", linewidth=1, label=f"truncated to {cut}")
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
