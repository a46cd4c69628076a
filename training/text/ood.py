"""The data that the out-of-distribution score of a text classifier is fitted and measured on."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from training.data import foreign
from training.export.distances import MOST_HELD_OUT, Distance, Method
from training.export.layers import penultimate
from training.export.ood import MOST_TEST, MOST_TRAINING, OodData, ood_uses, some_indices
from training.text.data import TextData
from training.text.evaluator import run_texts
from training.text.tokenizer import Ids, to_ids

TEXTS = Method(
    "how far the last layer's features are from those of the nearest class", ((Distance.to_class_means, penultimate),)
)


def ood_data_from_texts(data: TextData, tokenizer: Tokenizer, sources: Mapping[str, str] | None = None) -> OodData:
    """The data for texts.

    Args:
        data: the texts.
        tokenizer: of the model.
        sources: files of other texts, by name; see `training.data.foreign.read_lines`.
    """

    def ids(texts: Sequence[str], chosen: npt.NDArray[np.int64]) -> list[Ids]:
        return to_ids(tokenizer, [texts[index] for index in chosen])

    train, (_, calibration) = some_indices(len(data.train), MOST_TRAINING), data.division
    test = ids(data.test.texts, some_indices(len(data.test), MOST_TEST))
    others = foreign.made_up_texts(tokenizer.get_vocab_size(), test)
    others |= {name: to_ids(tokenizer, foreign.read_lines(source)) for name, source in (sources or {}).items()}
    return OodData(
        TEXTS,
        ids(data.train.texts, train),
        data.train.labels[train],
        ids(data.validation.texts, calibration[some_indices(len(calibration), MOST_HELD_OUT)]),
        test,
        others,
        run_texts,
        ood_uses(len(train), data.division),
    )
