"""What is measured of a text classifier apart from its probabilities: lengths, word embeddings, explained mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from service.tasks.text.reading import influence, read_text, without_each
from training.export.figures import Evaluation
from training.text.baseline import linear_baseline
from training.text.data import TextData
from training.text.evaluator import answers
from training.text.network import TextNetwork
from training.text.task import Ids
from training.text.tokenizer import encoded

_MISTAKES = 8
_WORDS_PER_MISTAKE = 5


@dataclass(frozen=True, slots=True)
class Findings:
    """What was measured in addition to the evaluation.

    Attributes:
        tokenizer: of the version.
        vectors: word embeddings, shape (words, embedding dimension).
        lengths: words of each training text.
        baseline: test accuracy of the linear baseline.
        influences: for the most confident mistakes, by index, the words that influenced the prediction most, with
            their weights.
        study: validation accuracy by size of the vocabulary and by length that texts are truncated to.
    """

    tokenizer: Tokenizer
    vectors: npt.NDArray[np.float32]
    lengths: npt.NDArray[np.int64]
    baseline: float
    influences: dict[int, list[tuple[str, float]]]
    study: list[dict[str, Any]]


def investigate(
    graph: Path,
    model: TextNetwork,
    tokenizer: Tokenizer,
    length: int,
    data: TextData,
    evaluation: Evaluation,
    study: list[dict[str, Any]],
) -> Findings:
    """Measures what the report needs in addition to the evaluation.

    Args:
        graph: exported.
        model: trained, on the CPU.
        tokenizer: of the version.
        length: the number of words that texts are truncated to.
        data: the texts.
        evaluation: on the test split.
        study: the rows of the study; empty without one.
    """
    return Findings(
        tokenizer,
        model.vectors.weight.detach().numpy(),
        _lengths(tokenizer, data.train.texts, length),
        linear_baseline(data),
        _influences(graph, tokenizer, length, data, evaluation),
        study,
    )


def confident_mistakes(evaluation: Evaluation) -> list[int]:
    """The indices of the wrongly classified test texts with the highest confidence."""
    wrong = np.flatnonzero(evaluation.probabilities.argmax(1) != evaluation.labels)
    order = np.argsort(-evaluation.probabilities[wrong].max(1), kind="stable")
    return [int(index) for index in wrong[order][:_MISTAKES]]


def _lengths(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Ids:
    """The number of words of each text without truncation; afterwards the tokenizer truncates to `length` again."""
    tokenizer.no_truncation()
    lengths = np.array([len(encoding.ids) for encoding in encoded(tokenizer, texts)])
    tokenizer.enable_truncation(length)
    return lengths


def _influences(
    graph: Path, tokenizer: Tokenizer, length: int, data: TextData, evaluation: Evaluation
) -> dict[int, list[tuple[str, float]]]:
    """For the most confident mistakes the words whose removal changes the prediction most."""
    influences = {}
    for index in confident_mistakes(evaluation):
        text = data.test.texts[index]
        reading = read_text(tokenizer, text, length)
        if not reading.tokens:
            continue
        without = answers(graph, without_each(reading.ids))
        words = influence(text, reading, evaluation.probabilities[index], without)
        strongest = sorted(words, key=lambda word: -abs(float(word["weight"])))[:_WORDS_PER_MISTAKE]
        influences[index] = [(str(word["word"]), float(word["weight"])) for word in strongest]
    return influences
