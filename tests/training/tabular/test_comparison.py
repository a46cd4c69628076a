import numpy as np
import pytest
from accelerate import Accelerator

from service.tasks.tabular.columns import ColumnCard
from training.engine.settings import FitSettings
from training.tabular.comparison import (
    BOOSTING,
    DEFAULT,
    NETWORK,
    HeldOut,
    NetworkMethod,
    cross_validate,
    folds_of,
    loss,
    possible_folds,
)
from training.tabular.data import TabularData, TabularSplit
from training.tabular.options import NetworkSettings

TARGETS = np.arange(100, dtype=np.float64)


def noisy(spread, seed):
    return (TARGETS + np.random.default_rng(seed).normal(0, spread, 100))[:, None]


def held_out(network, boosting, default):
    answers = {NETWORK: network, DEFAULT: default}
    return HeldOut("regression", TARGETS, [np.arange(100)], answers, {10: noisy(50, 9), 20: boosting})


def test_the_mean_of_models_whose_errors_differ_is_preferred():
    share, answers = held_out(noisy(5, 0), noisy(5, 1), noisy(5, 2)).choose()
    assert 0.3 < share < 0.7
    np.testing.assert_allclose(answers, share * noisy(5, 0) + (1 - share) * noisy(5, 1))


def test_one_method_is_left_out_if_it_does_not_help():
    good, bad = noisy(1, 0), noisy(60, 1)
    assert held_out(good, bad, bad).choose()[0] == 1
    assert held_out(bad, good, bad).choose()[0] == 0
    share, answers = held_out(bad, bad, good).choose()
    assert share is None
    assert answers is good


def test_the_share_never_costs_accuracy_beside_the_default():
    # The network is less sure, and right less often.
    targets, sure = np.array([0] * 10), np.array([[0.9, 0.1]] * 9 + [[0.001, 0.999]])
    unsure = np.array([[0.7, 0.3]] * 7 + [[0.45, 0.55]] * 3)
    found = HeldOut("classification", targets, [np.arange(10)], {NETWORK: unsure, DEFAULT: sure}, {10: sure})
    assert loss(unsure, targets, "classification") > 0
    assert (found.choose()[1].argmax(1) == 0).sum() >= 9


def test_boosting_ends_where_the_loss_is_least():
    assert held_out(noisy(5, 0), noisy(5, 1), noisy(5, 2)).iterations == 20


def test_folds_leave_two_classes_to_every_training():
    rows = TabularSplit(np.zeros((30, 1), np.float32), np.repeat([0, 1, 2], (25, 3, 2)))
    assert possible_folds(rows, "classification", 5) == 5
    for train, held in folds_of(rows, "classification", 5, 0):
        assert {0, 1} <= set(rows.targets[train])
        assert len(train) + len(held) == 30
    lonely = TabularSplit(np.zeros((26, 1), np.float32), np.repeat([0, 1], (25, 1)))
    assert possible_folds(lonely, "classification", 5) == 0
    assert possible_folds(lonely, "regression", 30) == 0


@pytest.mark.filterwarnings("ignore:.*")
def test_all_methods_answer_for_every_row_once(tmp_path):
    random = np.random.default_rng(0)
    rows = random.normal(size=(120, 3)).astype(np.float32)
    split = TabularSplit(rows, (rows[:, 0] + rows[:, 1] > 0).astype(np.int64))
    layout = tuple(ColumnCard(name=name, mean=0) for name in "abc")
    data = TabularData("x", "classification", layout, "t", ("no", "yes"), split, split, split, "sha256:")
    epochs = []

    class Watch:
        def estimate(self, seconds, validation):
            pass

        def epoch(self, number, figures):
            epochs.append(number)

    settings = FitSettings(epochs=2, batch_size=32, optimizer="adamw", lr=0.01)
    method = NetworkMethod(NetworkSettings(hidden=(4,)), settings, data, tmp_path, Accelerator(cpu=True), Watch())
    found = cross_validate(method, split, 3)
    assert epochs == [1, 2] * 3
    assert sorted(np.concatenate(found.folds)) == list(range(120))
    _, answers = found.choose()
    compared = found.compared(answers)
    assert set(compared) == {"this model", BOOSTING, NETWORK, DEFAULT, "logistic regression"}
    assert compared["logistic regression"].mean > 0.9
    assert compared["this model"].mean >= compared[DEFAULT].mean > 0.8
    for values in found.answers.values():
        np.testing.assert_allclose(values.sum(1), 1, atol=1e-6)
