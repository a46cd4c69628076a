import math

import pytest

from service.inference.cards import BaselineCard, MainFigure
from training.baseline import Baseline, below_baseline, beside_baseline


class Manifest:
    name = "mine"

    def __init__(self, value, interval, baseline, *, figure="accuracy", higher_is_better=True):
        self.main_figure = MainFigure(figure, value, higher_is_better)
        self.intervals = {figure: interval} if interval else {}
        self.baseline = baseline and BaselineCard(
            name="a line", figure="accuracy", higher_is_better=higher_is_better,
            validation=0.9, test=baseline, items=10, seconds=1,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("manifest", "is_below"),
    [
        (Manifest(0.80, (0.70, 0.88), 0.89), True),
        (Manifest(0.80, (0.70, 0.88), 0.88), False),
        (Manifest(0.80, None, 0.81), True),
        (Manifest(0.80, (0.70, 0.88), None), False),
        (Manifest(0.80, (0.70, 0.88), 0.95, figure="map"), False),
        (Manifest(0.30, (0.25, 0.35), 0.20, higher_is_better=False), True),
        (Manifest(0.10, (0.05, 0.15), 0.20, higher_is_better=False), False),
        (Manifest(math.nan, None, 0.20), False),
    ],
)
def test_a_model_is_worse_than_its_baseline_beyond_its_interval(manifest, is_below):
    assert ("mine is worse than its baseline" in below_baseline(manifest)) == is_below


def test_the_figures_of_a_model_and_its_baseline_stand_side_by_side():
    assert beside_baseline(Manifest(0.80, (0.70, 0.88), 0.82)) == "test accuracy 0.8, of the baseline 0.82"
    with_validation = Manifest(0.80, None, 0.82)
    with_validation.baseline = with_validation.baseline.model_copy(update={"model_validation": 0.95})
    assert beside_baseline(with_validation).endswith("; validation 0.95, of the baseline 0.9")
    assert not beside_baseline(Manifest(0.80, None, None))
    assert not beside_baseline(Manifest(0.80, None, 0.82, figure="map"))


def test_a_baseline_is_measured_on_test_for_its_card():
    measured = []
    found = Baseline(name="a line", figure="r2", validation=0.5, items=7, test=lambda: measured.append(1) or 0.4)
    assert not measured
    card = found.card(1.26)
    assert (card.name, card.figure, card.validation, card.test, card.items, card.seconds) == (
        "a line", "r2", 0.5, 0.4, 7, 1.3,
    )  # fmt: skip
