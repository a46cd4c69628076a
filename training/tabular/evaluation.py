"""How good a dense network on a table is, compared with a linear model and gradient boosting, and what it relies on."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accelerate import Accelerator
from rich.console import Console
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from service.tasks.cards import Calibration
from service.tasks.tabular.columns import ColumnCard
from service.tasks.tabular.manifest import CrossValidated, TabularMetrics
from training.engine.fit import fit
from training.engine.progress import track
from training.engine.settings import FitSettings
from training.export.calibration import expected_calibration_error, logits_of, softmax
from training.export.evaluator import run_in_batches
from training.export.figures import class_metrics, macro_f1
from training.export.intervals import bootstrap, bootstrap_confusion, wilson
from training.tabular.data import TabularData, TabularSplit
from training.tabular.encoding import Floats
from training.tabular.learner import Rows, predict, target_scale
from training.tabular.network import build
from training.tabular.options import NetworkSettings
from training.tabular.profile import Kind

FOLDS = 5
# Gradient boosting takes categories with fewer words as categories, and others as numbers.
_MOST_BINS = 255
INPUT = "rows"
BATCH = 1024
# Trains on a split and predicts the targets of other rows.
Method = Callable[[TabularSplit, Floats], npt.NDArray[Any]]


def baselines(kind: Kind, layout: Sequence[ColumnCard]) -> dict[str, Method]:
    """A linear model and gradient boosting, with their usual settings."""
    categories = [index for index, card in enumerate(layout) if card.kind == "category"]
    numbers = [index for index in range(len(layout)) if index not in categories]
    small = [index for index in categories if len(layout[index].values) < _MOST_BINS]
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), categories),
    )
    models: dict[str, Any]
    if kind == "classification":
        models = {
            "logistic regression": make_pipeline(prepared, LogisticRegression(max_iter=1000)),
            "gradient boosting": HistGradientBoostingClassifier(random_state=0, categorical_features=small),
        }
    else:
        models = {
            "ridge regression": make_pipeline(prepared, Ridge()),
            "gradient boosting": HistGradientBoostingRegressor(random_state=0, categorical_features=small),
        }
    return {name: partial(_fit_and_predict, model) for name, model in models.items()}


def _fit_and_predict(model: Any, split: TabularSplit, rows: Floats) -> npt.NDArray[Any]:
    if len(np.unique(split.targets)) == 1:  # the fold holds all rows of the other class
        return np.full(len(rows), split.targets[0])
    predicted: npt.NDArray[Any] = model.fit(split.rows, split.targets).predict(rows)
    return predicted


def folds_of(rows: TabularSplit, kind: Kind, seed: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Five folds: the indices of the rows to train on, and of those that are held out."""
    # A class with fewer rows than folds cannot be in all of them.
    stratified = kind == "classification" and np.unique(rows.targets, return_counts=True)[1].min() >= FOLDS
    maker = StratifiedKFold if stratified else KFold
    return list(maker(FOLDS, shuffle=True, random_state=seed).split(rows.rows, rows.targets))


def cross_validate(methods: dict[str, Method], rows: TabularSplit, kind: Kind, seed: int) -> dict[str, CrossValidated]:
    """Accuracy, or R², over five folds of `rows`, the same for every method."""
    scores: dict[str, list[float]] = {name: [] for name in methods}
    for train, held_out in track(folds_of(rows, kind, seed), "Cross-validation"):
        part, rest = rows.take(train), rows.take(held_out)
        for name, method in methods.items():
            scores[name].append(score(rest.targets, method(part, rest.rows), kind))
    return {name: CrossValidated(mean=float(np.mean(s)), std=float(np.std(s))) for name, s in scores.items()}


def score(targets: npt.NDArray[Any], predicted: npt.NDArray[Any], kind: Kind) -> float:
    """Accuracy of classes, or R² (coefficient of determination) of numbers."""
    return float(accuracy_score(targets, predicted) if kind == "classification" else r2_score(targets, predicted))


def permutation_importance(
    estimate: Callable[[Floats], npt.NDArray[Any]], split: TabularSplit, kind: Kind, seed: int, repeats: int = 20
) -> npt.NDArray[np.float64]:
    """The loss of score when a column's values are shuffled (Breiman 2001), shape (columns, repeats)."""
    random = np.random.default_rng(seed)
    whole = score(split.targets, estimate(split.rows), kind)
    losses = np.empty((split.rows.shape[1], repeats))
    for column, repeat in np.ndindex(*losses.shape):
        rows = split.rows.copy()
        rows[:, column] = random.permutation(rows[:, column])
        losses[column, repeat] = whole - score(split.targets, estimate(rows), kind)
    return losses


class NetworkMethod:
    """The recipe's own training, as `cross_validate` takes it; a tenth of the rows chooses the epoch.

    Attributes:
        outputs: the network's outputs for the rows of each call.
    """

    def __init__(
        self, network: NetworkSettings, settings: FitSettings, data: TabularData, folder: Path, accelerator: Accelerator
    ) -> None:
        self._network, self._settings, self._data = network, settings, data
        self._folder, self._accelerator = folder, accelerator
        self.outputs: list[Floats] = []

    def __call__(self, split: TabularSplit, rows: Floats) -> npt.NDArray[Any]:
        data, settings = self._data, self._settings
        order = np.random.default_rng(settings.seed).permutation(len(split))
        validation, train = split.take(order[: len(order) // 10]), split.take(order[len(order) // 10 :])
        model = build(self._network, data.layout, train, len(data.classes) or 1, settings.seed)
        learner = Rows(train, validation, data.kind)
        fit(model, learner, settings, self._folder, accelerator=self._accelerator, console=Console(quiet=True))
        outputs = predict(model.cpu(), rows)
        self.outputs.append(outputs)
        scale = target_scale(train, data.kind)
        return outputs.argmax(1) if scale is None else outputs[:, 0].astype(np.float64) * scale[1] + scale[0]


def run_graph(graph: Path, rows: Floats) -> Floats:
    """The outputs of an exported graph: probabilities, shape (n, classes), or numbers, shape (n, 1)."""
    return run_in_batches(graph, INPUT, rows, BATCH)[0]


def predict_with(graph: Path, rows: Floats, kind: Kind) -> npt.NDArray[Any]:
    """The classes that an exported graph predicts, or the numbers, shape (n,)."""
    outputs = run_graph(graph, rows)
    return outputs.argmax(1) if kind == "classification" else outputs[:, 0].astype(np.float64)


def evaluate(graph: Path, data: TabularData, compared: dict[str, CrossValidated], temperature: float) -> dict[str, Any]:
    """Measures an exported graph on the test split.

    Args:
        graph: with the temperature in it.
        data: the rows.
        compared: the figures of the folds.
        temperature: that the graph divides the logits by. It was fitted on the rows that the folds held out, since the
            validation rows alone are too few: if none of a handful is misclassified, the best temperature makes every
            answer certain.

    Returns:
        Metrics, calibration (of classes) and 95 % intervals, by the names of the manifest's fields.
    """
    outputs, targets = run_graph(graph, data.test.rows), data.test.targets
    if data.kind == "regression":
        numbers = outputs[:, 0].astype(np.float64)
        everything = np.arange(len(targets))
        return {
            "metrics": TabularMetrics(**_errors(targets, numbers, everything), cross_validated=compared),
            "calibration": None,
            "intervals": bootstrap(partial(_errors, targets, numbers), len(targets)),
        }
    predicted = outputs.argmax(1)
    confusion = confusion_matrix(targets, predicted, labels=range(len(data.classes)))
    uncalibrated = softmax(logits_of(outputs) * np.float32(temperature))
    return {
        "metrics": TabularMetrics(
            accuracy=score(targets, predicted, data.kind),
            macro_f1=macro_f1(confusion),
            per_class=class_metrics(data.classes, targets, predicted),
            cross_validated=compared,
        ),
        "calibration": Calibration(
            temperature=temperature,
            ece_before=expected_calibration_error(uncalibrated, targets),
            ece_after=expected_calibration_error(outputs, targets),
        ),
        "intervals": {
            "accuracy": wilson(int(np.trace(confusion)), len(targets)),
            "macro_f1": bootstrap_confusion(macro_f1, confusion),
        },
    }


def _errors(targets: npt.NDArray[Any], predicted: npt.NDArray[Any], chosen: npt.NDArray[np.int64]) -> dict[str, float]:
    return {
        "r2": float(r2_score(targets[chosen], predicted[chosen])),
        "rmse": float(root_mean_squared_error(targets[chosen], predicted[chosen])),
        "mae": float(mean_absolute_error(targets[chosen], predicted[chosen])),
    }
