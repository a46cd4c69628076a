from datetime import date

import numpy as np
import pytest
import torch
from torch import nn

from service.tasks.tabular.columns import ColumnCard
from training.tabular.data import TabularSplit
from training.tabular.evaluation import permutation_importance
from training.tabular.network import TabularGraph, TabularNetwork
from training.tabular.options import NetworkSettings

NAN = float("nan")
NUMBERS = [ColumnCard(name=name, mean=0) for name in "ab"]
SETTINGS = NetworkSettings(hidden=(4,), dropout=0.0)
ROWS = np.array([[1, 10], [3, NAN], [5, 30]], dtype=np.float32)


class Fixed(nn.Module):
    """Stands for trees that answer every row alike."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = torch.tensor(outputs)

    def forward(self, rows):
        return self.outputs.expand(len(rows), -1)


def test_columns_are_standardised_by_their_training_statistics():
    network = TabularNetwork(NUMBERS, ROWS, 2, SETTINGS)
    np.testing.assert_allclose(network.mean, [3, 20])
    np.testing.assert_allclose(network.std, [np.sqrt(8 / 3), 10], rtol=1e-6)


def test_a_missing_value_is_its_columns_mean():
    network = TabularNetwork(NUMBERS, ROWS, 2, SETTINGS).eval()
    torch.testing.assert_close(network(torch.tensor([[2.0, NAN]])), network(torch.tensor([[2.0, 20.0]])))
    assert torch.isfinite(network(torch.tensor([[NAN, NAN]]))).all()


def test_a_constant_column_is_harmless():
    network = TabularNetwork(NUMBERS, np.ones((5, 2), np.float32), 1, SETTINGS).eval()
    assert torch.isfinite(network(torch.tensor([[1.0, 2.0]]))).all()


def test_words_have_entries_for_the_unknown_and_for_a_missing_one():
    card = ColumnCard(name="city", kind="category", values=("Seoul", "Busan"))
    network = TabularNetwork([card], np.array([[0], [1], [NAN]], np.float32), 2, SETTINGS).eval()
    outputs = network(torch.tensor([[0.0], [1.0], [-1.0], [2.0], [NAN]]))
    torch.testing.assert_close(outputs[2], outputs[3])  # whatever is no word of the category is unknown
    assert len({tuple(row.tolist()) for row in outputs}) == 4


def test_dates_are_where_they_are_in_the_week_and_the_year():
    card = ColumnCard(name="day", kind="date", origin=date(2024, 1, 1), mean=0)
    days = np.arange(0, 800, 5, dtype=np.float32)[:, None]
    network = TabularNetwork([card], days, 2, SETTINGS).eval()
    assert network.dates == {0: [(7.0, 0.0), (365.2425, 0.0)]}
    assert torch.isfinite(network(torch.tensor([[NAN], [1e7]]))).all()
    hours = TabularNetwork([card], days + np.float32(0.25), 2, SETTINGS)
    assert [period for period, _ in hours.dates[0]] == [7.0, 365.2425, 1.0]


def test_the_graph_gives_probabilities_or_the_targets_unit():
    network = TabularNetwork(NUMBERS, ROWS, 3, SETTINGS).eval()
    rows = torch.from_numpy(ROWS)
    probabilities = TabularGraph(network, None, 1.0, 2.0, None)(rows)
    torch.testing.assert_close(probabilities, (network(rows) / 2).softmax(1))
    single = TabularNetwork(NUMBERS, ROWS, 1, SETTINGS).eval()
    torch.testing.assert_close(TabularGraph(single, None, 1.0, 1.0, (100.0, 7.0))(rows), single(rows) * 7 + 100)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_graph_averages_network_and_trees(share):
    rows = torch.from_numpy(ROWS)
    network, trees = TabularNetwork(NUMBERS, ROWS, 3, SETTINGS).eval(), Fixed([0.0, 2.0, 1.0])
    want = share * network(rows).softmax(1) + (1 - share) * trees(rows).softmax(1)
    torch.testing.assert_close(TabularGraph(network, trees, share, 1.0, None)(rows), want)
    single, value = TabularNetwork(NUMBERS, ROWS, 1, SETTINGS).eval(), Fixed([2.0])
    want = (share * single(rows) + (1 - share) * 2) * 7 + 100
    torch.testing.assert_close(TabularGraph(single, value, share, 1.0, (100.0, 7.0))(rows), want)


def test_importance_is_high_for_the_column_that_is_used():
    rows = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    split = TabularSplit(rows, (rows[:, 1] > 0).astype(np.int64))
    losses = permutation_importance(lambda part: (part[:, 1] > 0).astype(int), split, "classification", 0, repeats=5)
    assert losses.shape == (3, 5)
    assert losses[1].mean() == pytest.approx(0.5, abs=0.07)
    assert (losses[[0, 2]] == 0).all()


def test_small_units_count_and_constants_do_not():
    random = np.random.default_rng(0)
    rows = np.stack((random.normal(5e-9, 3e-9, 200), np.full(200, 7.1)), axis=1).astype(np.float32)
    network = TabularNetwork(NUMBERS, rows, 2, SETTINGS)
    np.testing.assert_allclose(network.std, [rows[:, 0].std(), 1], rtol=1e-4)
