import numpy as np

from service.drift.histograms import make_histogram
from service.tasks.base import Statistic, Values


def test_the_inner_bins_hold_nearly_all_items_and_the_outer_ones_the_rest():
    values = np.append(np.random.default_rng(0).normal(size=1000), [1e6, -1e6, np.nan, np.inf])
    histogram = make_histogram(Statistic("input", "size"), Values(values))
    assert sum(histogram.counts) == 1002
    assert sum(histogram.counts[8:40]) >= 980
    assert (histogram.counts[0], histogram.counts[-1], histogram.missing) == (1, 1, 2)
