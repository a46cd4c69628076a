"""The report of a classifier of texts: its plots, and what its card reads of the record."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import f1_score
from tokenizers import Tokenizer

from service.tasks.text.reading import UNKNOWN
from training.export.calibration import Floats
from training.export.figures import Evaluation
from training.report.plots import ACCENT, MEASURED, Curve, draw_confusion, draw_reliability, save_plot
from training.report.record import update_record
from training.text.data import TextData
from training.text.tokenizer import Ids, encoded
from training.text.words import neighbours

CURVES = Curve("loss", "cross-entropy", training="cross_entropy"), Curve("accuracy", "accuracy")
_TOPICS_DRAWN = 12


def write_report(
    folder: Path,
    evaluation: Evaluation,
    data: TextData,
    tokenizer: Tokenizer,
    length: int,
    test: Sequence[Ids],
    vectors: Floats | None,
) -> None:
    """Draws and records what was measured.

    Args:
        folder: of the version.
        evaluation: on the test split.
        data: the texts.
        tokenizer: of the version.
        length: the number of tokens that texts are truncated to.
        test: token ids of the test texts.
        vectors: word embeddings, shape (words, embedding dimension); None with a pretrained backbone.
    """
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    lengths = np.array([len(encoding.ids) for encoding in encoded(whole, data.train.texts)])
    save_plot(folder, "lengths.png", 6, 3.2, lambda axes: _draw_lengths(axes[0], lengths, length))
    save_plot(folder, "calibration.png", 9, 4, lambda axes: draw_reliability(axes, evaluation), 2)
    common = np.argsort(-np.bincount(evaluation.labels, minlength=len(data.classes)), kind="stable")[:_TOPICS_DRAWN]
    matrix, names = evaluation.confusion[np.ix_(common, common)], [data.classes[index] for index in common]
    title = "Test texts of the most common topics"
    save_plot(folder, "confusion.png", 6.6, 6.4, lambda axes: draw_confusion(axes[0], matrix, names, title))
    predicted = evaluation.probabilities.argmax(1)
    update_record(
        folder,
        weighted_f1=float(f1_score(evaluation.labels, predicted, average="weighted", zero_division=0)),
        known=float((np.concatenate(test) != UNKNOWN).mean()),
        fits=float((lengths <= length).mean()),
        neighbours=[] if vectors is None else neighbours(tokenizer, vectors, data),
    )


def _draw_lengths(axis: Axes, lengths: Ids, length: int) -> None:
    axis.hist(lengths, bins=50, color=ACCENT)
    axis.axvline(length, color=MEASURED, linewidth=1, label=f"longer texts are truncated to {length}")
    axis.set(xlabel="tokens", ylabel="training texts", title="Length of the training texts")
    axis.legend()
