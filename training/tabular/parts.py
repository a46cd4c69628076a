"""What the familiarity of networks on tables is fitted and measured on, and which method tells most there."""

import numpy as np

from training import foreign
from training.evaluator import run_in_batches, sample
from training.familiarity import MOST_HELD_OUT, Mahalanobis, Method, Parts
from training.layers import first_inputs
from training.parts import MOST_TEST, MOST_TRAINING, some
from training.tabular.data import TabularData

ROWS = Method(
    "how far the columns, made ready for the network, are from those of training rows (Mahalanobis distance)",
    ((Mahalanobis, first_inputs),),
)


def of_rows(data: TabularData) -> Parts:
    """The parts of a table.

    The features are the columns before anything is learned from them, so half of the training rows may be held out too:
    of a small table the validation rows alone would be too few for a small p-value.
    """
    order = sample(len(data.train), len(data.train))
    fitted, rest = order[: (len(order) + 1) // 2][:MOST_TRAINING], order[(len(order) + 1) // 2 :]
    held_out = np.concatenate((data.validation.rows, data.train.rows[rest]))
    test = data.test.rows[some(len(data.test), MOST_TEST)]
    deviations = {index: card.std or 0.0 for index, card in enumerate(data.layout) if card.kind == "number"}
    return Parts(
        ROWS,
        data.train.rows[fitted],
        np.zeros(len(fitted), np.int64),
        held_out[:MOST_HELD_OUT],
        test,
        foreign.made_up_rows(test, deviations),
        lambda graph, rows: run_in_batches(graph, "rows", rows, 1024),
    )
