"""Windows hold the last items, and add up."""

import json

import numpy as np

from service.drift.distance import ITEMS, Bins
from service.drift.histograms import make_histogram
from service.drift.window import Counts, Window
from service.tasks.base import Statistic, Values

NUMBERS = Bins(make_histogram(Statistic("input", "size"), Values(np.arange(100.0))))
LABELS = Bins(make_histogram(Statistic("answer", "label", ("a", "b")), Values(np.arange(100) % 2)), ("a", "b"))


def values(size: float, label: int, count: int) -> list[Values]:
    return [Values(np.full(count, size)), Values(np.full(count, label))]


def test_a_window_forgets_what_is_older_than_its_items():
    window = Window([NUMBERS, LABELS])
    assert window.counts().items == 0
    for _ in range(100):
        window.add(values(10, 0, 10), 10)
    assert window.counts().items == ITEMS
    assert window.counts().bins[1].tolist() == [1000, 0]
    for _ in range(124):
        window.add(values(90, 1, 10), 10)
    counts = window.counts()
    assert counts.items == 1240
    assert counts.bins[1].tolist() == [0, 1240]
    assert counts.sums[0].tolist() == [1240 * 90, 1240 * 90**2]


def test_counts_of_several_processes_add_up():
    parts = []
    for size, label in ((10, 0), (20, 1)):
        window = Window([NUMBERS, LABELS])
        window.add(values(size, label, 7), 7)
        parts.append(json.loads(json.dumps(window.counts().to_json())))
    sizes = [len(bins.reference) for bins in (NUMBERS, LABELS)]
    together = Counts.sum(sizes, map(Counts.from_json, parts))
    assert together.items == 14
    assert together.bins[0].sum() == 14
    assert together.bins[1].tolist() == [7, 7]
    assert together.sums[0].tolist() == [210, 7 * 100 + 7 * 400]
    assert together.since == min(part["since"] for part in parts)


def test_a_process_with_other_bins_is_left_out():
    other = Counts([3, 2])
    other.items = 5
    assert Counts.sum([49, 2], [other, Counts([49, 2])]).items == 0
