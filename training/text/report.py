"""The model card of a text classifier."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import f1_score

from service.tasks.text.manifest import TextManifest
from service.tasks.text.reading import UNKNOWN
from training.engine.fit import FitState
from training.export.figures import Evaluation
from training.report.markdown import (
    calibrated_by,
    figures,
    interval,
    label_set_notes,
    label_set_table,
    provenance,
    table,
    training_section,
)
from training.report.plots import (
    ACCENT,
    MEASURED,
    Curve,
    draw_confusion,
    draw_curves,
    draw_reliability,
    save_plot,
)
from training.text.data import TextData
from training.text.evaluation import Findings
from training.text.tokenizer import encoded
from training.text.words import Words, choose_words, draw_map, neighbour_table

_CONFUSED = 12
_VOCABULARIES = {
    None: "They are divided into the {:,} tokens of the pretrained model",
    "words": "The vocabulary holds the {:,} most frequent words of the training texts",
    "bpe": "They are divided into parts by byte-pair encoding, with a vocabulary of {:,} parts",
    "unigram": "They are divided into parts by a unigram language model, with a vocabulary of {:,} parts",
}


def write_report(
    folder: Path,
    manifest: TextManifest,
    evaluation: Evaluation,
    data: TextData,
    findings: Findings,
    state: FitState,
    onnx_difference: float,
) -> None:
    """Writes `README.md` and the plots it shows into `folder`.

    Args:
        folder: is made if it does not exist.
        manifest: of the version.
        evaluation: on the test split.
        data: for the texts of the mistakes.
        findings: what was measured in addition.
        state: of the finished training.
        onnx_difference: the largest difference of the exported graph from PyTorch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_plot(folder / "learning-curves.png", 9, 3.4, 2, lambda axes: _history(axes, state))
    save_plot(folder / "lengths.png", 6, 3.2, 1, lambda axes: _lengths(axes[0], findings, manifest.max_length))
    save_plot(folder / "calibration.png", 9, 4, 2, lambda axes: draw_reliability(axes, evaluation))
    most_common = np.argsort(-np.bincount(evaluation.labels, minlength=len(data.classes)), kind="stable")[:_CONFUSED]
    names = [data.classes[index] for index in most_common]
    matrix = evaluation.confusion[np.ix_(most_common, most_common)]
    title = "Test texts of the most common topics"
    save_plot(folder / "confusion.png", 6.6, 6.4, 1, lambda axes: draw_confusion(axes[0], matrix, names, title))
    words = None if findings.vectors is None else choose_words(findings.tokenizer, findings.vectors, data)
    if words:
        save_plot(folder / "words.png", 10, 8.5, 1, lambda axes: draw_map(axes[0], words, data.classes))
    (folder / "README.md").write_text(_card(manifest, evaluation, data, findings, words, onnx_difference))


def _card(
    manifest: TextManifest,
    evaluation: Evaluation,
    data: TextData,
    findings: Findings,
    words: Words | None,
    onnx_difference: float,
) -> str:
    metrics, calibration = manifest.metrics, manifest.calibration
    predicted = evaluation.probabilities.argmax(1)
    weighted = f1_score(evaluation.labels, predicted, average="weighted", zero_division=0)
    covered = [encoding.ids for encoding in encoded(findings.tokenizer, data.test.texts)]
    known = 1 - sum(ids.count(UNKNOWN) for ids in covered) / max(1, sum(map(len, covered)))
    rows = sorted(metrics.per_class, key=lambda row: -row.support)
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}. Input: int64 token ids from `tokenizer.json`, padded with 0 at the end. "
        "Output: calibrated probabilities.",
        f"**Test accuracy {metrics.accuracy:.4f}**{interval(manifest, 'accuracy')} on the {len(data.test)} test texts "
        f"of {data.name} (validation {metrics.validation_accuracy:.4f}); macro F1 {metrics.macro_f1:.4f}"
        f"{interval(manifest, 'macro_f1')}, weighted F1 {weighted:.4f}. The linear baseline (support vector machine on "
        f"tf-idf of the same tokens) reaches {findings.baseline:.4f}.",
        "## Tokenisation",
        f"Words are runs of letters{' and digits' if manifest.training.settings.get('digits') else ''} in lower case. "
        f"{_VOCABULARIES[manifest.training.settings.get('vocabulary')].format(manifest.words - 2)}, which "
        f"covers {known:.1%} of those of the test texts. Texts are truncated to {manifest.max_length} tokens; "
        f"{(findings.lengths <= manifest.max_length).mean():.1%} of the training texts are no longer.",
        "![Lengths of the training texts](lengths.png)",
        "## Per topic",
        table(
            ("topic", "precision", "recall", "F1", "test texts"),
            [(row.label, *figures(row.precision, row.recall, row.f1), row.support) for row in rows],
        ),
        f"Confusion matrix of the {_CONFUSED} most common topics:",
        "![Confusion matrix](confusion.png)",
        "## Calibration",
        f"The expected calibration error (15 bins) is {calibration.ece_before:.4f} as trained and "
        f"**{calibration.ece_after:.4f}**{interval(manifest, 'ece_after')} {calibrated_by(calibration)}. The "
        "section History says what that was fitted on; it holds for texts like those of the training set.",
        "![Reliability](calibration.png)",
        "Label sets (split conformal prediction):",
        label_set_table(manifest.conformal),
        label_set_notes(manifest.conformal),
        *(_embeddings(words, data.classes) if words else ()),
        "## The most confident mistakes",
        *_mistakes(evaluation, data, findings),
        *training_section(manifest),
        *provenance(manifest, f"{onnx_difference:.1g}"),
    ]
    return "\n\n".join(parts) + "\n"


def _embeddings(words: Words, classes: Sequence[str]) -> list[str]:
    return [
        "## Word embeddings",
        "The words that are typical of the most common topics, projected by t-SNE: a map in which near words have "
        "similar embeddings. The network was never told which words belong together; it learnt what it needs to tell "
        "the topics apart.",
        "![Map of words](words.png)",
        *neighbour_table(words, classes),
    ]


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


def _history(axes: Sequence[Axes], state: FitState) -> None:
    loss = Curve("loss", "cross-entropy", training="cross_entropy")
    for axis, curve in zip(axes, (loss, Curve("accuracy", "accuracy")), strict=True):
        draw_curves(axis, state.history, curve, state.initial)


def _lengths(axis: Axes, findings: Findings, cut: int) -> None:
    axis.hist(findings.lengths, bins=50, color=ACCENT)
    axis.axvline(cut, color=MEASURED, linewidth=1, label=f"longer texts are truncated to {cut}")
    axis.set(xlabel="tokens", ylabel="training texts", title="Length of the training texts")
    axis.legend()
