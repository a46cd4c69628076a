"""The report of a classifier of texts: its plots, and what its card reads of the record."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import f1_score

from service.tasks.text.reading import UNKNOWN
from training.export.figures import Evaluation
from training.report.plots import ACCENT, MEASURED, Curve, draw_confusion, draw_reliability, save_plot
from training.report.record import update_record
from training.text.data import TextData
from training.text.evaluation import Findings
from training.text.tokenizer import encoded
from training.text.words import neighbours

CURVES = Curve("loss", "cross-entropy", training="cross_entropy"), Curve("accuracy", "accuracy")
_TOPICS_DRAWN = 12
_LONGEST_TEXT = 300


def write_report(folder: Path, evaluation: Evaluation, data: TextData, findings: Findings, length: int) -> None:
    """Draws and records what was measured.

    Args:
        folder: of the version.
        evaluation: on the test split.
        data: for the texts of mistakes.
        findings: what was measured in addition.
        length: the number of tokens that texts are truncated to.
    """
    save_plot(folder, "lengths.png", 6, 3.2, lambda axes: _draw_lengths(axes[0], findings, length))
    save_plot(folder, "calibration.png", 9, 4, lambda axes: draw_reliability(axes, evaluation), 2)
    common = np.argsort(-np.bincount(evaluation.labels, minlength=len(data.classes)), kind="stable")[:_TOPICS_DRAWN]
    matrix, names = evaluation.confusion[np.ix_(common, common)], [data.classes[index] for index in common]
    title = "Test texts of the most common topics"
    save_plot(folder, "confusion.png", 6.6, 6.4, lambda axes: draw_confusion(axes[0], matrix, names, title))
    predicted = evaluation.probabilities.argmax(1)
    tokens = np.concatenate([encoding.ids for encoding in encoded(findings.tokenizer, data.test.texts)])
    update_record(
        folder,
        weighted_f1=float(f1_score(evaluation.labels, predicted, average="weighted", zero_division=0)),
        baseline=findings.baseline,
        known=float((tokens != UNKNOWN).mean()) if len(tokens) else 0.0,
        fits=float((findings.lengths <= length).mean()),
        neighbours=[] if findings.vectors is None else neighbours(findings.tokenizer, findings.vectors, data),
        mistakes=[_mistake(index, evaluation, data, findings) for index in findings.influences],
    )


def _mistake(index: int, evaluation: Evaluation, data: TextData, findings: Findings) -> dict[str, Any]:
    predicted, text = int(evaluation.probabilities[index].argmax()), data.test.texts[index]
    return {
        "true": data.classes[evaluation.labels[index]],
        "predicted": data.classes[predicted],
        "confidence": float(evaluation.probabilities[index, predicted]),
        "text": text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} …",
        "words": findings.influences[index],
    }


def _draw_lengths(axis: Axes, findings: Findings, length: int) -> None:
    axis.hist(findings.lengths, bins=50, color=ACCENT)
    axis.axvline(length, color=MEASURED, linewidth=1, label=f"longer texts are truncated to {length}")
    axis.set(xlabel="tokens", ylabel="training texts", title="Length of the training texts")
    axis.legend()
