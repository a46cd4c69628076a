"""Agreement of tabular models: labels, or numbers within the error of the default version."""

import numpy as np
import pytest

from service.tasks.agreement import Incomparable, check_comparable, measure_between
from tests.golden_rows import committed

MODEL = committed("tabular")


def regression(**metrics: float | None):
    figures = MODEL.manifest.metrics.model_copy(update={"rmse": 3.0, "r2": 0.75, **metrics})
    return MODEL.manifest.model_copy(update={"kind": "regression", "labels": (), "metrics": figures})


def number(value: float):
    return np.array([value], np.float32), np.float32(0.5)


def test_numbers_within_the_error_of_the_default_agree():
    words, compare = measure_between(MODEL.task, regression(), regression())
    assert compare(number(10), number(13)) == (True, pytest.approx(0.5), None)
    assert compare(number(10), number(4)) == (False, pytest.approx(1.0), None)
    assert "error, 3;" in words
    assert "deviation, 6" in words


def test_a_perfect_default_accepts_what_its_golden_file_does():
    _, compare = measure_between(MODEL.task, regression(rmse=0.0, r2=1.0), regression())
    assert compare(number(10), number(10.00005)).agrees
    assert not compare(number(10), number(10.001)).agrees


def test_the_outcome_of_a_number_has_no_label():
    outcome = MODEL.task.agreement.outcome(regression(), number(10))
    assert outcome == (None, 0.5)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"target": "other"}, "targets differ"),
        ({"kind": "regression"}, "targets differ"),
        ({"columns": MODEL.manifest.columns[::-1]}, "columns differ"),
    ],
)
def test_versions_that_read_or_predict_something_else_cannot_be_compared(update, message):
    with pytest.raises(Incomparable, match=message):
        check_comparable(MODEL.task, MODEL.manifest, MODEL.manifest.model_copy(update=update))


def test_a_default_without_figures_cannot_be_compared():
    with pytest.raises(Incomparable, match="states no rmse"):
        check_comparable(MODEL.task, regression(rmse=None), regression())
