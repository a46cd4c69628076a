"""The cheap model that a training has to beat, and what is said when it does not."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from service.inference.cards import BaselineCard, ManifestBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A model of seconds on the same splits, such as logistic regression on frozen features.

    Attributes:
        name: what it is.
        figure: the name of the figure; `ManifestBase.main_figure` has the same.
        higher_is_better: False for an error.
        validation: the figure on the selection half of validation.
        items: training items that it was fitted on.
        test: measures it on the test split; called once, after the training.
        starts: the network starts from it. Its initial weights then count as epoch 0, and are kept unless an epoch is
            better on validation.
    """

    name: str
    figure: str
    higher_is_better: bool = True
    validation: float
    items: int
    test: Callable[[], float]
    starts: bool = False

    def card(self, seconds: float) -> BaselineCard:
        """The record for the manifest, measured on test; `seconds` is how long it took to fit."""
        return BaselineCard(
            name=self.name,
            figure=self.figure,
            higher_is_better=self.higher_is_better,
            validation=self.validation,
            test=self.test(),
            items=self.items,
            seconds=round(seconds, 1),
        )


def beside_baseline(manifest: ManifestBase) -> str:
    """The figures of a version beside those of its baseline; empty without one."""
    card, figure = manifest.baseline, manifest.main_figure
    if card is None or figure is None or figure.name != card.figure:
        return ""
    line = f"test {card.figure} {figure.value:.4g}, of the baseline {card.test:.4g}"
    if card.model_validation is not None:
        line += f"; validation {card.model_validation:.4g}, of the baseline {card.validation:.4g}"
    return line


def below_baseline(manifest: ManifestBase) -> str:
    """How a version falls short of its baseline on test, beyond its 95 % interval; empty if it does not."""
    card, figure = manifest.baseline, manifest.main_figure
    if card is None or figure is None or figure.name != card.figure:
        return ""
    low, high = manifest.intervals.get(figure.name, (figure.value, figure.value))
    if not math.isfinite(low + high + card.test):
        return ""
    if (high >= card.test) if card.higher_is_better else (low <= card.test):
        return ""
    interval = f"95 % interval {low:.4g} to {high:.4g}"
    words = f"test {figure.name} {figure.value:.4g} ({interval}), {card.name} {card.test:.4g}"
    return f"{manifest.name} is worse than its baseline: {words}"
