"""How graphs of a text classifier are judged: See `Evaluator`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.cards import Use
from service.inference.session import Session
from training.export.calibrate import Floats
from training.export.evaluator import Array, Inputs, sample
from training.export.figures import Evaluation, evaluate
from training.export.history import FIGURES, LABEL_SETS, TEMPERATURE, halves_used
from training.export.scaled_graph import logits_alone, write_scaling
from training.export.scaling import Scaling
from training.text.data import TextData
from training.text.learner import in_order_of_length, padded
from training.text.tokenizer import Ids

INPUT = "ids"


class TextEvaluator:
    """See `Evaluator`.

    Args:
        data: the texts.
        train: token ids of each training text; likewise `validation` and `test`.
        scaling: that the graphs have before `finish`; None for graphs that have just been exported.
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
        scaling: Scaling | None = None,
    ) -> None:
        self._data = data
        self._train, self._validation, self._test = train, validation, test
        selection, _ = data.division
        self._choice = ([validation[index] for index in selection], data.validation.labels[selection])
        self._scaling = scaling or Scaling()

    def at(self, scaling: Scaling) -> "TextEvaluator":
        """The same for graphs that scale their logits in this way already."""
        return TextEvaluator(self._data, self._train, self._validation, self._test, scaling)

    def calibration(self, count: int) -> list[Inputs]:
        """See `Evaluator`."""
        texts = [self._train[index] for index in sample(count, len(self._train))]
        return [{INPUT: padded([texts[index] for index in part]).numpy()} for part in in_order_of_length(texts)]

    def examples(self, count: int) -> Inputs:
        """See `Evaluator`."""
        return {INPUT: padded(self._choice[0][:count]).numpy()}

    def score(self, graph: Path) -> float:
        """See `Evaluator`; on the selection half."""
        texts, labels = self._choice
        return float((answers(graph, texts).argmax(1) == labels).mean())

    def scored(self, *purposes: str) -> tuple[Use, ...]:
        """See `Evaluator`."""
        return halves_used(self._data.division, selection=purposes)

    def measured(self, *, fit: bool = True) -> tuple[Use, ...]:
        """See `Evaluator`."""
        return (
            *(self.scored(TEMPERATURE) if fit else ()),
            *halves_used(self._data.division, calibration=(LABEL_SETS,)),
            Use(split="test", purpose=FIGURES, items=len(self._data.test)),
        )

    def finish(self, graph: Path) -> dict[str, Any]:
        """See `Evaluator`."""
        return self.evaluate(graph).fields

    def evaluate(self, graph: Path) -> Evaluation:
        """Fits the scaling and measures everything."""
        data, temperature = self._data, self._scaling.temperature
        with logits_alone(graph, temperature) as bare:
            validation, test = (answers(bare, part) for part in (self._validation, self._test))
        evaluation = evaluate(data.classes, validation, data.validation.labels, test, data.test.labels)
        write_scaling(graph, evaluation.scaling, temperature)
        return evaluation


def answers(graph: Path, texts: Sequence[Ids]) -> Floats:
    """The first output of a graph, shape (texts, classes); those of similar length are computed together."""
    first: Floats = run_texts(graph, texts)[0]
    return first


def run_texts(graph: Path, texts: Sequence[Ids]) -> list[Array]:
    """What a graph answers to texts, in their order: an array for each output."""
    session = Session(graph, "cpu")
    parts = in_order_of_length(texts)
    answered = [session.run({INPUT: padded([texts[i] for i in part]).numpy()}) for part in parts]
    back = np.argsort(np.concatenate(parts))
    return [np.concatenate(output)[back] for output in zip(*answered, strict=True)]
