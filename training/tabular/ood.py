"""The data that the out-of-distribution score of a network on tables is fitted and measured on."""

import numpy as np

from training.data import foreign
from training.export.distances import MOST_HELD_OUT, Distance, Method
from training.export.evaluator import run_in_batches
from training.export.layers import first_inputs
from training.export.ood import MOST_TEST, MOST_TRAINING, OodData, ood_uses, some_indices
from training.tabular.data import TabularData

ROWS = Method(
    "how far the columns, made ready for the network, are from those of training rows (Mahalanobis distance)",
    ((Distance.mahalanobis, first_inputs),),
)


def ood_data_from_rows(data: TabularData) -> OodData:
    """The data for a table."""
    fitted, (_, calibration) = some_indices(len(data.train), MOST_TRAINING), data.division
    test = data.test.rows[some_indices(len(data.test), MOST_TEST)]
    deviations = {index: card.std or 0.0 for index, card in enumerate(data.layout) if card.kind == "number"}
    return OodData(
        ROWS,
        data.train.rows[fitted],
        np.zeros(len(fitted), np.int64),
        data.validation.rows[calibration[some_indices(len(calibration), MOST_HELD_OUT)]],
        test,
        foreign.made_up_rows(test, deviations),
        lambda graph, rows: run_in_batches(graph, "rows", rows, 1024),
        ood_uses(len(fitted), data.division),
    )
