"""What the familiarity of text classifiers is fitted and measured on, and the method for them."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from service.inference.cards import Use
from training.data import foreign
from training.export.familiarity import MOST_HELD_OUT, Method, Parts, ToClassMeans
from training.export.history import DISTANCES, P_VALUES, halves_used
from training.export.layers import penultimate
from training.export.parts import CHOSEN_ON, MOST_TEST, MOST_TRAINING, some
from training.text.data import TextData
from training.text.evaluator import run_texts
from training.text.tokenizer import Ids, to_ids

TEXTS = Method(
    "how far the last layer's features are from those of the nearest class", CHOSEN_ON, ((ToClassMeans, penultimate),)
)


def of_texts(data: TextData, tokenizer: Tokenizer, sources: Mapping[str, str] | None = None) -> Parts:
    """The parts of a data set of texts.

    Args:
        data: the texts.
        tokenizer: of the model.
        sources: files of other texts, by what they are; see `training.data.foreign.read_lines`.
    """
    train, (_, calibration) = some(len(data.train), MOST_TRAINING), data.division
    test = _ids(tokenizer, data.test.texts, some(len(data.test), MOST_TEST))
    others = foreign.made_up_texts(tokenizer.get_vocab_size(), test)
    others |= {name: to_ids(tokenizer, foreign.read_lines(source)) for name, source in (sources or {}).items()}
    return Parts(
        TEXTS,
        _ids(tokenizer, data.train.texts, train),
        data.train.labels[train],
        _ids(tokenizer, data.validation.texts, calibration[some(len(calibration), MOST_HELD_OUT)]),
        test,
        others,
        run_texts,
        (
            Use(split="train", purpose=DISTANCES, items=len(train)),
            *halves_used(data.division, calibration=(P_VALUES,), most=MOST_HELD_OUT),
        ),
    )


def _ids(tokenizer: Tokenizer, texts: Sequence[str], chosen: npt.NDArray[np.int64]) -> list[Ids]:
    return to_ids(tokenizer, [texts[index] for index in chosen])
