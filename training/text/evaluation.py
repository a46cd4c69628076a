"""What is measured of a text classifier apart from its probabilities: lengths, word embeddings, explained mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from service.tasks.text.reading import influence, read_text, without_each
from training.export.figures import Evaluation
from training.text.data import TextData
from training.text.evaluator import answers
from training.text.tokenizer import Ids, encoded

_MISTAKES = 8
_WORDS_PER_MISTAKE = 5


@dataclass(frozen=True, slots=True)
class Findings:
    """What the report shows in addition to the evaluation.

    Attributes:
        tokenizer: of the version.
        vectors: word embeddings, float32, shape (words, embedding dimension); None with a pretrained backbone.
        lengths: tokens of each training text without truncation, int64, shape (n,).
        baseline: test accuracy of the linear classifier on tf-idf.
        influences: for the most confident mistakes, by test index, the words with the most influence and their weights.
    """

    tokenizer: Tokenizer
    vectors: npt.NDArray[np.float32] | None
    lengths: Ids
    baseline: float
    influences: dict[int, list[tuple[str, float]]]


def full_lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> Ids:
    """The number of tokens of each text without truncation."""
    whole = Tokenizer.from_str(tokenizer.to_str())
    whole.no_truncation()
    return np.array([len(encoding.ids) for encoding in encoded(whole, texts)])


def explain_mistakes(
    graph: Path, tokenizer: Tokenizer, length: int, data: TextData, evaluation: Evaluation
) -> dict[int, list[tuple[str, float]]]:
    """For the misclassified test texts of the highest confidence, the words whose removal changes the answer most."""
    wrong = np.flatnonzero(evaluation.probabilities.argmax(1) != evaluation.labels)
    order = np.argsort(-evaluation.probabilities[wrong].max(1), kind="stable")
    influences = {}
    for index in wrong[order][:_MISTAKES].tolist():
        text = data.test.texts[index]
        reading = read_text(tokenizer, text, length)
        if not reading.tokens:
            continue
        words = influence(text, reading, evaluation.probabilities[index], answers(graph, without_each(reading.ids)))
        strongest = sorted(words, key=lambda word: -abs(float(word["weight"])))[:_WORDS_PER_MISTAKE]
        influences[index] = [(str(word["word"]), float(word["weight"])) for word in strongest]
    return influences
