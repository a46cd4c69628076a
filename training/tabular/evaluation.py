"""How good a dense network on a table is, compared with a linear model and gradient boosting, and what it relies on."""

from collections.abc import Callable, Sequence
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
    precision_recall_fscore_support,
    r2_score,
    root_mean_squared_error,
)
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from service.tasks.cards import Calibration, ClassMetrics
from service.tasks.tabular.columns import ColumnCard
from service.tasks.tabular.manifest import CrossValidated, TabularMetrics
from training.engine.fit import fit
from training.engine.progress import track
from training.engine.settings import FitSettings
from training.export.calibration import expected_calibration_error, logits_of, softmax
from training.export.evaluator import run_in_batches
from training.export.figures import macro_f1
from training.export.intervals import Interval, bootstrap, bootstrap_confusion, wilson
from training.tabular.data import TabularData, TabularSplit
from training.tabular.encoding import Floats, Kind
from training.tabular.network import TabularNetwork, build
from training.tabular.options import NetworkSettings
from training.tabular.task import Rows, predict

FOLDS = 5
# Gradient boosting takes categories with fewer words for categories, and others for numbers.
_MOST_BINS = 255
INPUT = "rows"
BATCH = 1024
# Trains on a split and predicts the targets of other rows.
Method = Callable[[TabularSplit, Floats], npt.NDArray[Any]]


def baselines(kind: Kind, layout: Sequence[ColumnCard]) -> dict[str, Method]:
    """A linear model and gradient boosting, with their usual settings."""
    categories = [index for index, card in enumerate(layout) if card.kind == "category"]
    small = [index for index in categories if len(layout[index].values) < _MOST_BINS]
    if kind == "classification":
        linear = make_pipeline(_prepared(layout, categories), LogisticRegression(max_iter=1000))
        boosting: Any = HistGradientBoostingClassifier(random_state=0, categorical_features=small)
        names = ("logistic regression", "gradient boosting")
    else:
        linear = make_pipeline(_prepared(layout, categories), Ridge())
        boosting = HistGradientBoostingRegressor(random_state=0, categorical_features=small)
        names = ("ridge regression", "gradient boosting")

    def method(model: Any) -> Method:
        def predicted(split: TabularSplit, rows: Floats) -> npt.NDArray[Any]:
            if kind == "classification" and len(np.unique(split.targets)) == 1:  # the other class is held out
                return np.full(len(rows), split.targets[0])
            return model.fit(split.rows, split.targets).predict(rows)

        return predicted

    return dict(zip(names, map(method, (linear, boosting)), strict=True))


def _prepared(layout: Sequence[ColumnCard], categories: list[int]) -> Any:
    """The columns as a linear model takes them: numbers imputed and standardised, words one-hot encoded."""
    numbers = [index for index in range(len(layout)) if index not in categories]
    scaled = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    words = OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer((scaled, numbers), (words, categories))


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
    for column in range(len(losses)):
        for repeat in range(repeats):
            rows = split.rows.copy()
            rows[:, column] = random.permutation(rows[:, column])
            losses[column, repeat] = whole - score(split.targets, estimate(rows), kind)
    return losses


def target_scale(train: TabularSplit, kind: Kind) -> tuple[float, float] | None:
    """Mean and standard deviation of a numeric target; None for classes."""
    if kind == "classification":
        return None
    return float(train.targets.mean()), max(float(train.targets.std()), 1e-12)


def standardised(split: TabularSplit, scale: tuple[float, float] | None) -> TabularSplit:
    """The split with numeric targets standardised."""
    return split if scale is None else TabularSplit(split.rows, (split.targets - scale[0]) / scale[1])


def predictions(model: TabularNetwork, rows: Floats, scale: tuple[float, float] | None) -> npt.NDArray[Any]:
    """The predicted classes, or numbers in the unit of the target."""
    outputs = predict(model, rows)
    return outputs.argmax(1) if scale is None else outputs[:, 0].astype(np.float64) * scale[1] + scale[0]


class NetworkMethod:
    """The recipe's own training, as `cross_validate` takes it; a tenth of the rows chooses the epoch.

    Attributes:
        outputs: the network's outputs for the rows of each call.
    """

    def __init__(
        self,
        network: NetworkSettings,
        settings: FitSettings,
        data: TabularData,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self._network, self._settings, self._data = network, settings, data
        self._folder, self._accelerator = folder, accelerator
        self.outputs: list[Floats] = []

    def __call__(self, split: TabularSplit, rows: Floats) -> npt.NDArray[Any]:
        data, settings = self._data, self._settings
        order = np.random.default_rng(settings.seed).permutation(len(split))
        validation, train = split.take(order[: len(order) // 10]), split.take(order[len(order) // 10 :])
        scale = target_scale(train, data.kind)
        model = build(self._network, data.layout, train, len(data.classes) or 1, settings.seed)
        task = Rows(standardised(train, scale), standardised(validation, scale), data.kind)
        quiet = Console(quiet=True)
        fit(model, task, settings, self._folder, accelerator=self._accelerator, console=quiet)
        self.outputs.append(predict(model.cpu(), rows))
        return predictions(model, rows, scale)


def intervals(predicted: npt.NDArray[Any], data: TabularData) -> dict[str, Interval]:
    """The 95 % intervals of accuracy and macro F1, or of R² and the errors; see `training.export.intervals`.

    Args:
        predicted: classes or numbers for the test rows, shape (n,).
        data: the test rows' targets.
    """
    targets = data.test.targets
    if data.kind == "classification":
        confusion = confusion_matrix(targets, predicted, labels=range(len(data.classes)))
        return {
            "accuracy": wilson(int(np.trace(confusion)), len(targets)),
            "macro_f1": bootstrap_confusion(macro_f1, confusion),
        }
    return bootstrap(
        lambda chosen: {
            "r2": score(targets[chosen], predicted[chosen], data.kind),
            "rmse": float(root_mean_squared_error(targets[chosen], predicted[chosen])),
            "mae": float(mean_absolute_error(targets[chosen], predicted[chosen])),
        },
        len(targets),
    )


def answers(graph: Path, rows: Floats) -> Floats:
    """What an exported graph answers: probabilities, shape (n, classes), or numbers, shape (n, 1)."""
    return run_in_batches(graph, INPUT, rows, BATCH)[0]


def answered(graph: Path, rows: Floats, kind: Kind) -> npt.NDArray[Any]:
    """The classes that an exported graph predicts, or the numbers, shape (n,)."""
    outputs = answers(graph, rows)
    return outputs.argmax(1) if kind == "classification" else outputs[:, 0].astype(np.float64)


def evaluate(
    graph: Path, data: TabularData, compared: dict[str, CrossValidated], temperature: float
) -> tuple[TabularMetrics, Calibration | None]:
    """Test figures of an exported graph, and for classes the calibration.

    Args:
        graph: with the temperature in it.
        data: the rows.
        compared: the figures of the folds.
        temperature: that the graph divides the logits by. It was fitted on the rows that the folds held out, since the
            validation rows alone are too few: if none of a handful is misclassified, the best temperature makes every
            answer certain.
    """
    predicted, targets = answered(graph, data.test.rows, data.kind), data.test.targets
    if data.kind == "regression":
        metrics = TabularMetrics(
            rmse=float(root_mean_squared_error(targets, predicted)),
            mae=float(mean_absolute_error(targets, predicted)),
            r2=score(targets, predicted, data.kind),
            cross_validated=compared,
        )
        return metrics, None
    probabilities = answers(graph, data.test.rows)
    uncalibrated = softmax(logits_of(probabilities) * np.float32(temperature))
    calibration = Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(uncalibrated, targets),
        ece_after=expected_calibration_error(probabilities, targets),
    )
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, predicted, labels=range(len(data.classes)), zero_division=0.0
    )
    metrics = TabularMetrics(
        accuracy=score(targets, predicted, data.kind),
        macro_f1=macro_f1(confusion_matrix(targets, predicted, labels=range(len(data.classes)))),
        per_class=tuple(
            ClassMetrics(label=name, precision=p, recall=r, f1=f, support=int(n))
            for name, p, r, f, n in zip(data.classes, precision, recall, f1, support, strict=True)
        ),
        cross_validated=compared,
    )
    return metrics, calibration
