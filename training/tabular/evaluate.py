"""How good a dense network on a table is, beside a linear model and gradient boosting; and what it looks at."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from service.inference.manifests.tabular import CrossValidated
from training.tabular.data import Floats, Kind, TabularSplit

FOLDS = 5
# Trains on a split and gives what it tells for other rows.
Method = Callable[[TabularSplit, Floats], npt.NDArray[Any]]


def rivals(kind: Kind) -> dict[str, Method]:
    """A linear model and gradient boosting, as one would use them without a second thought."""
    if kind == "classification":
        linear = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000))
        boosting: Any = HistGradientBoostingClassifier(random_state=0)
        names = ("logistic regression", "gradient boosting")
    else:
        linear = make_pipeline(SimpleImputer(), StandardScaler(), Ridge())
        boosting = HistGradientBoostingRegressor(random_state=0)
        names = ("ridge regression", "gradient boosting")

    def method(model: Any) -> Method:
        return lambda split, rows: model.fit(split.rows, split.targets).predict(rows)

    return dict(zip(names, map(method, (linear, boosting)), strict=True))


def folds_of(rows: TabularSplit, kind: Kind, seed: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Five ways to hold a fifth of the rows out: which to train on and which to hold out."""
    maker = StratifiedKFold if kind == "classification" else KFold
    return list(maker(FOLDS, shuffle=True, random_state=seed).split(rows.rows, rows.targets))


def cross_validate(methods: dict[str, Method], rows: TabularSplit, kind: Kind, seed: int) -> dict[str, CrossValidated]:
    """Accuracy, or R2, over five folds of `rows`, the same for every method."""
    scores: dict[str, list[float]] = {name: [] for name in methods}
    for train, held_out in folds_of(rows, kind, seed):
        part, rest = rows.take(train), rows.take(held_out)
        for name, method in methods.items():
            scores[name].append(score(rest.targets, method(part, rest.rows), kind))
    return {name: CrossValidated(mean=float(np.mean(s)), std=float(np.std(s))) for name, s in scores.items()}


def score(targets: npt.NDArray[Any], told: npt.NDArray[Any], kind: Kind) -> float:
    """Accuracy of classes, or R2 of numbers."""
    return float(accuracy_score(targets, told) if kind == "classification" else r2_score(targets, told))


def permutation_importance(
    tell: Callable[[Floats], npt.NDArray[Any]], split: TabularSplit, kind: Kind, seed: int, repeats: int = 20
) -> npt.NDArray[np.float64]:
    """What the score loses when a column's values change places (Breiman 2001), shape (columns, repeats)."""
    random = np.random.default_rng(seed)
    whole = score(split.targets, tell(split.rows), kind)
    losses = np.empty((split.rows.shape[1], repeats))
    for column in range(len(losses)):
        for repeat in range(repeats):
            rows = split.rows.copy()
            rows[:, column] = random.permutation(rows[:, column])
            losses[column, repeat] = whole - score(split.targets, tell(rows), kind)
    return losses
