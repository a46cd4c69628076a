"""The words that explain the mistakes of a text classifier."""

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from service.tasks.text.reading import influence, read_text, without_each
from training.export.figures import Evaluation
from training.text.data import TextData
from training.text.evaluator import answers

_MISTAKES = 8
_WORDS_PER_MISTAKE = 5
_LONGEST_TEXT = 300


def explain_mistakes(
    graph: Path, tokenizer: Tokenizer, length: int, data: TextData, evaluation: Evaluation
) -> list[dict[str, Any]]:
    """The misclassified test texts of the highest confidence, and the words whose removal changes the answer most.

    Args:
        graph: exported.
        tokenizer: of the version.
        length: the number of tokens that texts are truncated to.
        data: the texts.
        evaluation: on the test split.

    Returns:
        For each the labels `true` and `predicted`, `confidence`, `text`, and `words` with their weights.
    """
    predicted, confidence = evaluation.probabilities.argmax(1), evaluation.probabilities.max(1)
    wrong = np.flatnonzero(predicted != evaluation.labels)
    rows = []
    for index in wrong[np.argsort(-confidence[wrong], kind="stable")][:_MISTAKES].tolist():
        text = data.test.texts[index]
        reading = read_text(tokenizer, text, length)
        if not reading.tokens:
            continue
        words = influence(text, reading, evaluation.probabilities[index], answers(graph, without_each(reading.ids)))
        strongest = sorted(words, key=lambda word: -abs(float(word["weight"])))[:_WORDS_PER_MISTAKE]
        rows.append({
            "true": data.classes[evaluation.labels[index]],
            "predicted": data.classes[predicted[index]],
            "confidence": float(confidence[index]),
            "text": text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} …",
            "words": [(str(word["word"]), float(word["weight"])) for word in strongest],
        })  # fmt: skip
    return rows
