"""Gradient boosting on the rows of a table: scikit-learn's defaults, and the mean of several slower models."""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from service.tasks.tabular.columns import ColumnCard
from training.tabular.columns import Floats
from training.tabular.data import TabularSplit

# HistGradientBoostingClassifier or HistGradientBoostingRegressor, which have no types.
Estimator: TypeAlias = Any
Doubles = npt.NDArray[np.float64]

# The logit of a class that no row had.
ABSENT = float(np.log(1e-6))
# Models of the mean, their most iterations for a small and for a large table, and after how many iterations validation
# measures them again.
MODELS, _ITERATIONS, _ITERATIONS_OF_LARGE, _STAGE = 4, 200, 400, 10
_LARGE = 4000  # rows
# Every iteration fits a tree for each of more than two classes.
_MOST_TREES = 4000


@dataclass(frozen=True, slots=True)
class Boosting:
    """Fitted models whose raw predictions are averaged.

    Attributes:
        classes: how many there are; 0 if a number is predicted.
        scale: mean and standard deviation of a number; the models predict how many deviations it is from the mean.
    """

    models: tuple[Estimator, ...]
    classes: int
    scale: tuple[float, float]

    @classmethod
    def fit(
        cls, split: TabularSplit, layout: Sequence[ColumnCard], classes: int, count: int = 1, **settings: Any
    ) -> Self:
        """Fits `count` models with `settings` of scikit-learn; their seeds differ."""
        scale = (0.0, 1.0)
        if not classes:
            scale = float(split.targets.mean()), max(float(split.targets.std()), 1e-12)
        targets = split.targets if classes else (split.targets - scale[0]) / scale[1]
        make: Any = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
        # It takes categories of at most 255 words, unknown ones included; others are numbers for it.
        categories = [index for index, card in enumerate(layout) if card.kind == "category" and len(card.values) < 255]
        models = (make(random_state=seed, categorical_features=categories, **settings) for seed in range(count))
        return cls(tuple(model.fit(split.rows, targets) for model in models), classes, scale)

    def answers(self, rows: Floats) -> Doubles:
        """Probabilities, shape (n, classes), or numbers, shape (n, 1)."""
        return self._answers(np.mean([model._raw_predict(rows) for model in self.models], axis=0))

    def stages(self, rows: Floats) -> dict[int, Doubles]:
        """The answers after every `_STAGE` iterations, by the number of iterations."""
        sums: dict[int, Doubles] = {}
        for model in self.models:
            for number, raw in enumerate(model._staged_raw_predict(rows), 1):
                if number % _STAGE == 0:
                    sums[number] = sums.get(number, 0) + raw
        return {number: self._answers(total / len(self.models)) for number, total in sums.items()}

    def first(self, iterations: int) -> "Boosting":
        """The models after their first iterations."""
        models = tuple(copy.copy(model) for model in self.models)
        for model in models:
            model._predictors = model._predictors[:iterations]
        return dataclasses.replace(self, models=models)

    def _answers(self, raw: Doubles) -> Doubles:
        if not self.classes:
            return raw * self.scale[1] + self.scale[0]
        present: npt.NDArray[np.int64] = self.models[0].classes_
        logits = np.full((len(raw), self.classes), ABSENT)
        logits[:, present] = np.concatenate((np.zeros_like(raw), raw), 1) if len(present) == 2 else raw
        probabilities: Doubles = np.exp(log_softmax(logits, axis=1))
        return probabilities


def fit_default(split: TabularSplit, layout: Sequence[ColumnCard], classes: int) -> Boosting:
    """A model with scikit-learn's settings; of more than 40 classes with fewer iterations."""
    settings: dict[str, Any] = {"max_iter": min(100, max(_STAGE, _MOST_TREES // max(1, classes)))}
    if classes and np.unique(split.targets, return_counts=True)[1].min() < 2:
        settings["early_stopping"] = False  # it needs two rows of every class
    return Boosting.fit(split, layout, classes, **settings)


def fit_mean(split: TabularSplit, layout: Sequence[ColumnCard], classes: int) -> Boosting:
    """The mean of several models that learn more slowly; every split looks at half of the columns."""
    settings = {"learning_rate": 0.05, "max_features": 0.5, "early_stopping": False}
    most = iterations_of_mean(len(split), classes)
    return Boosting.fit(split, layout, classes, MODELS, max_iter=most, **settings)


def iterations_of_mean(rows: int, classes: int) -> int:
    """The most iterations of `fit_mean`."""
    trees = MODELS * (classes if classes > 2 else 1)
    most = _ITERATIONS_OF_LARGE if rows > _LARGE else _ITERATIONS
    return min(most, max(_STAGE, _MOST_TREES // trees // _STAGE * _STAGE))


def cost_of_mean(default: Boosting, seconds: float, rows: int) -> float:
    """The seconds of `fit_mean` on so many rows, given those of `fit_default`."""
    iterations = max(1, default.models[0].n_iter_)
    return 0.9 * seconds / iterations * MODELS * iterations_of_mean(rows, default.classes)
