"""How graphs of a text classifier are judged: see `training.evaluator`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.session import Session
from training.calibrate import Floats, logits_of
from training.data import halves
from training.evaluation import Evaluation, evaluate
from training.evaluator import Array, Inputs, sample
from training.temperature import calibrate
from training.text.data import TextData
from training.text.task import Ids, in_order_of_length, padded

INPUT = "ids"


class TextEvaluator:
    """See `training.evaluator.Evaluator`.

    Args:
        data: the texts.
        train: token ids of each training text; likewise `validation` and `test`.
        temperature: that the graphs divide their logits by before `finish`.
    """

    figure = "accuracy"
    may_fall = 0.002
    compared = "probabilities"

    def __init__(
        self,
        data: TextData,
        train: Sequence[Ids],
        validation: Sequence[Ids],
        test: Sequence[Ids],
        temperature: float = 1.0,
    ) -> None:
        self._data = data
        self._train, self._validation, self._test = train, validation, test
        choosing, _ = halves(data.validation.labels)
        self._choosing = ([validation[index] for index in choosing], data.validation.labels[choosing])
        self._temperature = temperature

    def at(self, temperature: float) -> "TextEvaluator":
        """The same for graphs that divide their logits by this temperature already."""
        return TextEvaluator(self._data, self._train, self._validation, self._test, temperature)

    def calibration(self, count: int) -> list[Inputs]:
        """See `training.evaluator.Evaluator`."""
        texts = [self._train[index] for index in sample(count, len(self._train))]
        return [{INPUT: padded([texts[index] for index in part]).numpy()} for part in in_order_of_length(texts)]

    def examples(self, count: int) -> Inputs:
        """See `training.evaluator.Evaluator`."""
        return {INPUT: padded(self._validation[:count]).numpy()}

    def score(self, graph: Path) -> float:
        """See `training.evaluator.Evaluator`; the half of validation that chooses tells."""
        texts, labels = self._choosing
        return float((answers(graph, texts).argmax(1) == labels).mean())

    def finish(self, graph: Path) -> dict[str, Any]:
        """See `training.evaluator.Evaluator`."""
        return self.evaluate(graph).fields

    def evaluate(self, graph: Path) -> Evaluation:
        """Fits the temperature and measures everything."""
        data = self._data
        texts, labels = self._choosing
        temperature = self._temperature * calibrate(graph, lambda path: answers(path, texts), labels)
        validation, test = (
            logits_of(answers(graph, part)) * np.float32(temperature) for part in (self._validation, self._test)
        )
        return evaluate(data.classes, validation, data.validation.labels, test, data.test.labels, temperature)


def answers(graph: Path, texts: Sequence[Ids]) -> Floats:
    """The probabilities that a graph gives, shape (texts, classes); those of similar length are computed together."""
    probabilities: Floats = run_texts(graph, texts)[0]
    return probabilities


def run_texts(graph: Path, texts: Sequence[Ids]) -> list[Array]:
    """What a graph answers to texts, in their order: an array for each output."""
    session = Session(graph, "cpu")
    parts = in_order_of_length(texts)
    answered = [session.run({INPUT: padded([texts[i] for i in part]).numpy()}) for part in parts]
    back = np.argsort(np.concatenate(parts))
    return [np.concatenate(output)[back] for output in zip(*answered, strict=True)]
