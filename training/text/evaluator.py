"""How graphs of a text classifier are judged: see `Evaluator`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from service.inference.session import Session
from training.export.calibration import Floats
from training.export.evaluator import LabelEvaluator, sample
from training.export.layers import Inputs
from training.text.data import Ids, TextData
from training.text.learner import Array, compute_texts, in_order_of_length, padded
from training.text.tokenizer import to_ids

INPUT = "ids"


class TextEvaluator(LabelEvaluator):
    """See `LabelEvaluator`; the inputs are token ids.

    Attributes:
        tokenizer: of the model.
        length: the number of tokens to which it truncates.
        words: the size of its vocabulary.
    """

    def __init__(self, data: TextData, tokenizer: Tokenizer) -> None:
        train, validation, test = (to_ids(tokenizer, part.texts) for part in (data.train, data.validation, data.test))
        super().__init__(data, (train, validation, test), [validation[index] for index in data.division[0]])
        self.tokenizer = tokenizer
        truncation: Any = tokenizer.truncation
        self.length = int(truncation["max_length"])
        self.words: int = tokenizer.get_vocab_size()

    def answers(self, graph: Path, items: Sequence[Ids]) -> Floats:
        return run_texts(graph, items)[0]

    def calibration(self, count: int) -> list[Inputs]:
        texts = [self.train[index] for index in sample(count, len(self.train))]
        return [{INPUT: padded([texts[index] for index in part]).numpy()} for part in in_order_of_length(texts)]

    def examples(self, count: int) -> Inputs:
        return {INPUT: padded(self.selected[:count]).numpy()}


def run_texts(graph: Path, texts: Sequence[Ids]) -> list[Array]:
    """A graph's outputs for texts, in their order."""
    session = Session(graph, "cpu")
    return compute_texts(texts, lambda ids: session.run({INPUT: ids.numpy()}))
