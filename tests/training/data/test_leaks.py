import numpy as np
import pytest

from training.data.dataset import Inspection
from training.data.leaks import Clue, held_out_scores, warn_of_columns


@pytest.fixture
def random():
    return np.random.default_rng(0)


def warnings(clues, targets, *, regression=False):
    inspection = Inspection()
    warn_of_columns(inspection, {name: Clue(values) for name, values in clues.items()}, targets, regression=regression)
    return inspection.warnings


def test_a_column_that_equals_the_target_is_named_with_the_option_that_leaves_it_out(random):
    targets = random.integers(0, 3, 300)
    useful = targets + random.normal(0, 1, 300)
    (warning,) = warnings({"copy": targets * 10.0, "useful": useful}, targets)
    assert warning.startswith("possible leak: one column alone predicts the target of rows that were held out: 'copy'")
    assert "'useful'" in warning
    assert warning.endswith("leave it out: --drop copy")


def test_leaks_do_not_hide_each_other(random):
    targets = random.integers(0, 2, 200)
    noise = random.normal(0, 1, 200)
    (warning,) = warnings({"a": targets.astype(float), "b": 1 - targets, "noise": noise}, targets)
    assert warning.endswith("--drop a,b")


def test_a_missing_value_may_be_the_leak(random):
    """As the number of the lifeboat in lists of the Titanic's passengers."""
    targets = random.integers(0, 2, 400)
    boat = np.where(targets == 1, random.integers(0, 20, 400), -2)
    number = np.where(targets == 1, random.normal(0, 1, 400), np.nan)
    (warning,) = warnings({"boat": boat, "number": number, "other": random.normal(0, 1, 400)}, targets)
    assert warning.endswith("--drop boat,number")


def test_an_id_that_repeats_may_be_the_leak_and_one_that_does_not_tells_nothing(random):
    patients = random.integers(0, 60, 600)
    targets = (patients % 2).astype(np.int64)
    scores = held_out_scores({"patient": Clue(patients), "row": Clue(np.arange(600))}, targets)
    assert scores["patient"] > 0.99
    assert scores["row"] < 0.7


def test_good_columns_and_rare_classes_are_no_leaks(random):
    targets = (random.random(1000) < 0.02).astype(np.int64)
    assert not warnings({"a": random.normal(0, 1, 1000), "b": random.integers(0, 5, 1000)}, targets)
    targets = random.integers(0, 2, 1000)
    good = {name: targets + random.normal(0, 0.22, 1000) for name in "ab"}
    assert min(held_out_scores({name: Clue(values) for name, values in good.items()}, targets).values()) > 0.95
    assert not warnings(good | {"third": targets + random.normal(0, 0.27, 1000)}, targets)


@pytest.mark.parametrize(("count", "copy"), [(60, lambda y: 2.54 * y + 3), (3000, np.log)])
def test_a_number_in_another_unit_is_a_leak(random, count, copy):
    targets = random.gamma(2, 1, count)
    rough = targets + random.normal(0, 0.5, count)
    (warning,) = warnings({"copy": copy(targets), "rough": rough}, targets, regression=True)
    assert warning.endswith("--drop copy")


def test_too_few_rows_and_too_many_classes_prove_nothing(random):
    few = random.integers(0, 2, 30)
    assert not warnings({"copy": few.astype(float)}, few)
    many = np.arange(400) // 2
    assert not warnings({"copy": many.astype(float)}, many)
