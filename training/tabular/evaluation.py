"""How good a dense network on a table is, compared with a linear model and gradient boosting, and what it relies on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from sklearn.metrics import accuracy_score, confusion_matrix, mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from service.tasks.cards import Calibration
from service.tasks.tabular.columns import ColumnCard
from service.tasks.tabular.manifest import CrossValidated, TabularMetrics
from training.data.foreign import made_up_rows
from training.engine.fit import fit
from training.engine.progress import track
from training.engine.settings import FitSettings
from training.export.calibration import expected_calibration_error, logits_of, softmax
from training.export.distances import MOST_HELD_OUT, Distance, Method
from training.export.evaluator import run_in_batches
from training.export.figures import bootstrap, bootstrap_confusion, class_metrics, macro_f1, wilson
from training.export.layers import first_inputs
from training.export.ood import MOST_TEST, MOST_TRAINING, OodData, ood_uses, some_indices
from training.tabular.columns import Floats
from training.tabular.data import TabularData, TabularSplit
from training.tabular.network import Rows, build, predict, target_scale
from training.tabular.options import Kind, NetworkSettings

FOLDS = 5
INPUT = "rows"
# Trains on a split and predicts the targets of other rows.
FitAndPredict = Callable[[TabularSplit, Floats], npt.NDArray[Any]]


def baselines(kind: Kind, layout: Sequence[ColumnCard]) -> dict[str, FitAndPredict]:
    """A linear model and gradient boosting, with their usual settings."""
    categories = [index for index, card in enumerate(layout) if card.kind == "category"]
    numbers = [index for index in range(len(layout)) if index not in categories]
    # Gradient boosting takes categories of at most 254 words; others are numbers for it.
    small = [index for index in categories if len(layout[index].values) < 255]
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), categories),
    )
    name, linear, boosting = (
        ("logistic regression", LogisticRegression(max_iter=1000), HistGradientBoostingClassifier)
        if kind == "classification"
        else ("ridge regression", Ridge(), HistGradientBoostingRegressor)
    )
    models = {
        name: make_pipeline(prepared, linear),
        "gradient boosting": boosting(random_state=0, categorical_features=small),
    }
    return {name: partial(_fit_and_predict, model) for name, model in models.items()}


def _fit_and_predict(model: Any, split: TabularSplit, rows: Floats) -> npt.NDArray[Any]:
    if len(np.unique(split.targets)) == 1:  # the fold holds all rows of the other class
        return np.full(len(rows), split.targets[0])
    predicted: npt.NDArray[Any] = model.fit(split.rows, split.targets).predict(rows)
    return predicted


def folds_of(rows: TabularSplit, kind: Kind, seed: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Of each of five folds the indices of the rows to train on, and of those that are held out."""
    # A class with fewer rows than folds cannot be in all of them.
    stratified = kind == "classification" and np.unique(rows.targets, return_counts=True)[1].min() >= FOLDS
    maker = StratifiedKFold if stratified else KFold
    return list(maker(FOLDS, shuffle=True, random_state=seed).split(rows.rows, rows.targets))


def cross_validate(
    methods: dict[str, FitAndPredict], rows: TabularSplit, kind: Kind, seed: int
) -> dict[str, CrossValidated]:
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


@dataclass
class NetworkMethod:
    """The recipe's own training, as `cross_validate` takes it; a tenth of the rows chooses the epoch.

    Attributes:
        outputs: the network's outputs for the rows of each call.
    """

    network: NetworkSettings
    settings: FitSettings
    data: TabularData
    folder: Path
    accelerator: Accelerator
    outputs: list[Floats] = field(default_factory=list)

    def __call__(self, split: TabularSplit, rows: Floats) -> npt.NDArray[Any]:
        kind, settings = self.data.kind, self.settings
        order = np.random.default_rng(settings.seed).permutation(len(split))
        validation, train = split.take(order[: len(order) // 10]), split.take(order[len(order) // 10 :])
        model, learner = build(self.network, self.data, train, settings.seed), Rows(train, validation, kind)
        fit(model, learner, settings, self.folder, accelerator=self.accelerator, console=Console(quiet=True))
        self.outputs.append(predict(model.cpu(), rows))
        return _answers(self.outputs[-1], kind, *(target_scale(train, kind) or (0, 1)))


def _answers(outputs: Floats, kind: Kind, mean: float = 0, std: float = 1) -> npt.NDArray[Any]:
    """Predicted classes, or numbers, shape (n,)."""
    return outputs.argmax(1) if kind == "classification" else outputs[:, 0].astype(np.float64) * std + mean


def run_graph(graph: Path, rows: Floats) -> list[Floats]:
    """The outputs of an exported graph; the first one are probabilities (n, classes), or numbers (n, 1)."""
    return run_in_batches(graph, INPUT, rows, 1024)


def predict_with(graph: Path, rows: Floats, kind: Kind) -> npt.NDArray[Any]:
    """The classes that an exported graph predicts, or the numbers, shape (n,)."""
    return _answers(run_graph(graph, rows)[0], kind)


def evaluate(graph: Path, data: TabularData, compared: dict[str, CrossValidated], temperature: float) -> dict[str, Any]:
    """Measures an exported graph, which divides its logits by `temperature`, on the test split.

    Returns:
        Metrics, calibration (of classes) and 95 % intervals, by the names of the manifest's fields.
    """
    outputs, targets = run_graph(graph, data.test.rows)[0], data.test.targets
    predicted = _answers(outputs, data.kind)
    if data.kind == "regression":
        errors = partial(_errors, targets, predicted)
        metrics = TabularMetrics(**errors(np.arange(len(targets))), cross_validated=compared)
        return {"metrics": metrics, "calibration": None, "intervals": bootstrap(errors, len(targets))}
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
    measures = {"r2": r2_score, "rmse": root_mean_squared_error, "mae": mean_absolute_error}
    return {name: float(measure(targets[chosen], predicted[chosen])) for name, measure in measures.items()}


def ood_data_from_rows(data: TabularData) -> OodData:
    """The data that the out-of-distribution score is fitted and measured on."""
    fitted, (_, calibration) = some_indices(len(data.train), MOST_TRAINING), data.division
    test = data.test.rows[some_indices(len(data.test), MOST_TEST)]
    deviations = {index: card.std or 0.0 for index, card in enumerate(data.layout) if card.kind == "number"}
    return OodData(
        Method(
            "how far the columns, made ready for the network, are from those of training rows (Mahalanobis distance)",
            ((Distance.mahalanobis, first_inputs),),
        ),
        data.train.rows[fitted],
        np.zeros(len(fitted), np.int64),
        data.validation.rows[calibration[some_indices(len(calibration), MOST_HELD_OUT)]],
        test,
        made_up_rows(test, deviations),
        run_graph,
        ood_uses(len(fitted), data.division),
    )
