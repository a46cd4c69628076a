"""What the familiarity of networks on tables is fitted and measured on, and the method for them."""

import numpy as np

from service.inference.cards import Use
from training.data import foreign
from training.export.evaluator import run_in_batches
from training.export.familiarity import MOST_HELD_OUT, Mahalanobis, Method, Parts
from training.export.history import DISTANCES, P_VALUES, halves_used
from training.export.layers import first_inputs
from training.export.parts import CHOSEN_ON, MOST_TEST, MOST_TRAINING, some
from training.tabular.data import TabularData

ROWS = Method(
    "how far the columns, made ready for the network, are from those of training rows (Mahalanobis distance)",
    CHOSEN_ON,
    ((Mahalanobis, first_inputs),),
)


def of_rows(data: TabularData) -> Parts:
    """The parts of a table."""
    fitted, (_, calibration) = some(len(data.train), MOST_TRAINING), data.division
    test = data.test.rows[some(len(data.test), MOST_TEST)]
    deviations = {index: card.std or 0.0 for index, card in enumerate(data.layout) if card.kind == "number"}
    return Parts(
        ROWS,
        data.train.rows[fitted],
        np.zeros(len(fitted), np.int64),
        data.validation.rows[calibration[some(len(calibration), MOST_HELD_OUT)]],
        test,
        foreign.made_up_rows(test, deviations),
        lambda graph, rows: run_in_batches(graph, "rows", rows, 1024),
        (
            Use(split="train", purpose=DISTANCES, items=len(fitted)),
            *halves_used(data.division, calibration=(P_VALUES,), most=MOST_HELD_OUT),
        ),
    )
