"""How graphs of a text classifier are judged: see `Evaluator`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from service.inference.session import Session
from training.export.calibration import Floats
from training.export.evaluator import Array, LabelEvaluator, sample
from training.export.layers import Inputs
from training.text.data import TextData
from training.text.learner import in_order_of_length, padded
from training.text.tokenizer import Ids, to_ids

INPUT = "ids"


class TextEvaluator(LabelEvaluator):
    """See `LabelEvaluator`; the inputs are token ids.

    Args:
        data: the texts.
        train: token ids of each training text; likewise `validation` and `test`.
    """

    def __init__(self, data: TextData, train: Sequence[Ids], validation: Sequence[Ids], test: Sequence[Ids]) -> None:
        super().__init__(data, (train, validation, test), [validation[index] for index in data.division[0]])

    @classmethod
    def of(cls, data: TextData, tokenizer: Tokenizer) -> "TextEvaluator":
        """The evaluator of texts, by the tokenizer of a model."""
        return cls(data, *(to_ids(tokenizer, part.texts) for part in (data.train, data.validation, data.test)))

    def answers(self, graph: Path, items: Sequence[Ids]) -> Floats:
        return answers(graph, items)

    def calibration(self, count: int) -> list[Inputs]:
        texts = [self.train[index] for index in sample(count, len(self.train))]
        return [{INPUT: padded([texts[index] for index in part]).numpy()} for part in in_order_of_length(texts)]

    def examples(self, count: int) -> Inputs:
        return {INPUT: padded(self.selected[:count]).numpy()}


def answers(graph: Path, texts: Sequence[Ids]) -> Floats:
    """The first output of a graph, shape (texts, classes)."""
    first: Floats = run_texts(graph, texts)[0]
    return first


def run_texts(graph: Path, texts: Sequence[Ids]) -> list[Array]:
    """A graph's outputs for texts, in their order; texts of similar length are computed together."""
    session = Session(graph, "cpu")
    parts = in_order_of_length(texts)
    answered = [session.run({INPUT: padded([texts[i] for i in part]).numpy()}) for part in parts]
    back = np.argsort(np.concatenate(parts))
    return [np.concatenate(output)[back] for output in zip(*answered, strict=True)]
