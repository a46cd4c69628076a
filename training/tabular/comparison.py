"""What validation prefers: the network, gradient boosting, or a weighted mean of both; and how a linear model does."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accelerate import Accelerator
from rich.console import Console
from scipy.special import log_softmax
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from service.tasks.tabular.manifest import CrossValidated
from training.engine.fit import Watch, fit
from training.engine.settings import FitSettings
from training.export.calibration import fit_temperature, logits_of, softmax
from training.tabular.boosting import Boosting, fit_default, fit_mean
from training.tabular.columns import Floats
from training.tabular.data import TabularData, TabularSplit
from training.tabular.network import Rows, TabularNetwork, build, predict, target_scale
from training.tabular.options import Kind, NetworkSettings

Doubles = npt.NDArray[np.float64]
# Trains on a split and answers for other rows: probabilities, shape (n, classes), or numbers, shape (n, 1).
FitAndAnswer = Callable[[TabularSplit, Floats], Doubles]

NETWORK, BOOSTING, DEFAULT = "network", "gradient boosting", "gradient boosting, default settings"
# The shares of the network that are tried.
_SHARES = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True)
class HeldOut:
    """What methods answer for rows that they were not fitted on.

    Attributes:
        targets: of the rows, shape (n,).
        folds: the indices of the rows that were held out together.
        answers: by method, shape (n, classes) or (n, 1).
        stages: of gradient boosting by the number of iterations.
    """

    kind: Kind
    targets: npt.NDArray[Any]
    folds: Sequence[npt.NDArray[np.int64]]
    answers: dict[str, Doubles]
    stages: dict[int, Doubles]

    @cached_property
    def iterations(self) -> int:
        """The number of iterations with the least loss."""
        return min(self.stages, key=lambda number: loss(self.stages[number], self.targets, self.kind))

    def mixed(self, share: float) -> Doubles:
        """The answers of which this share is the network's, and the rest that of gradient boosting."""
        return mix(share, self.answers[NETWORK], self.stages[self.iterations])

    def choose(self) -> tuple[float | None, Doubles]:
        """The share of the network that validation prefers, and the answers with it.

        It has the least loss among those that do not score worse than gradient boosting with its default settings; it
        is None if those settings are best.
        """
        default = self.answers[DEFAULT]
        least = loss(default, self.targets, self.kind)
        best: tuple[float | None, Doubles] = None, default
        for share in _SHARES:
            answers = self.mixed(share)
            found = loss(answers, self.targets, self.kind)
            if found < least and self._score(answers) >= self._score(default):
                least, best = found, (share, answers)
        return best

    def _score(self, answers: Doubles) -> float:
        return score(self.targets, decide(answers, self.kind), self.kind)

    def compared(self, chosen: Doubles) -> dict[str, CrossValidated]:
        """Accuracy, or R², by method over the folds; `chosen` are the answers of the model that is published."""
        answers = {"this model": chosen, BOOSTING: self.stages[self.iterations], **self.answers}
        return {name: self._over_folds(values) for name, values in answers.items()}

    def _over_folds(self, answers: Doubles) -> CrossValidated:
        scores = [score(self.targets[fold], decide(answers[fold], self.kind), self.kind) for fold in self.folds]
        return CrossValidated(mean=float(np.mean(scores)), std=float(np.std(scores)))


def mix(share: float, network: Doubles, boosting: Doubles) -> Doubles:
    """The weighted mean of two answers."""
    return share * network + (1 - share) * boosting


def decide(answers: npt.NDArray[Any], kind: Kind) -> npt.NDArray[Any]:
    """Predicted classes, or numbers, shape (n,)."""
    return answers.argmax(1) if kind == "classification" else answers[:, 0].astype(np.float64)


def score(targets: npt.NDArray[Any], predicted: npt.NDArray[Any], kind: Kind) -> float:
    """Accuracy of classes, or R² (coefficient of determination) of numbers."""
    return float(accuracy_score(targets, predicted) if kind == "classification" else r2_score(targets, predicted))


def loss(answers: Doubles, targets: npt.NDArray[Any], kind: Kind) -> float:
    """The mean squared error; of probabilities the log loss at the temperature that makes it smallest."""
    if kind == "regression":
        return float(np.square(answers[:, 0] - targets).mean())
    logits = logits_of(answers.astype(np.float32))
    scaled = log_softmax(logits / fit_temperature(logits, targets), axis=1)
    return float(-scaled[np.arange(len(targets)), targets].mean())


def answers_of(network: TabularNetwork, rows: Floats, scale: tuple[float, float] | None) -> Doubles:
    """The network's answers; `scale` is as `target_scale` returns it."""
    outputs = predict(network, rows)
    return softmax(outputs).astype(np.float64) if scale is None else outputs.astype(np.float64) * scale[1] + scale[0]


def possible_folds(rows: TabularSplit, kind: Kind, folds: int) -> int:
    """How many folds leave rows of two classes to every training, at most `folds`; 0 if there is no way."""
    if kind == "regression":
        return folds if folds <= len(rows) else 0
    counts = np.sort(np.unique(rows.targets, return_counts=True)[1])
    return folds if counts[-2] > 1 and counts[-1] >= folds else 0


def folds_of(
    rows: TabularSplit, kind: Kind, folds: int, seed: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Of each fold the indices of the rows to train on, and of those that are held out."""
    maker = StratifiedKFold if kind == "classification" else KFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes with fewer rows than folds
        return list(maker(folds, shuffle=True, random_state=seed).split(rows.rows, rows.targets))


def cross_validate(network: "NetworkMethod", rows: TabularSplit, folds: int) -> HeldOut:
    """What all methods answer for the rows of each fold, fitted on the others; see `possible_folds`."""
    data = network.data
    parts = folds_of(rows, data.kind, folds, network.settings.seed)
    methods: dict[str, FitAndAnswer] = {NETWORK: network, **others(data)}
    found: dict[str | int, Doubles] = {}
    for train, held_out in parts:
        part, rest = rows.take(train), rows.rows[held_out]
        fold: dict[str | int, Doubles] = {name: method(part, rest) for name, method in methods.items()}
        stages = fit_mean(part, data.layout, len(data.classes)).stages(rest)
        fold |= dict[str | int, Doubles](stages.items())
        for name, values in fold.items():
            found.setdefault(name, np.empty((len(rows), values.shape[1])))[held_out] = values
    return HeldOut(
        data.kind,
        rows.targets,
        [held_out for _, held_out in parts],
        {name: values for name, values in found.items() if isinstance(name, str)},
        {number: values for number, values in found.items() if isinstance(number, int)},
    )


def hold_out(data: TabularData, network: TabularNetwork, default: Boosting, mean: Boosting) -> HeldOut:
    """What models that were fitted on the training rows answer for the selection half of validation."""
    selection, _ = data.division
    part = data.validation.take(selection)
    own = answers_of(network, part.rows, target_scale(data.train, data.kind))
    answers = {NETWORK: own, DEFAULT: default.answers(part.rows)}
    return HeldOut(data.kind, part.targets, [np.arange(len(part))], answers, mean.stages(part.rows))


def others(data: TabularData) -> dict[str, FitAndAnswer]:
    """Gradient boosting with its default settings, and a linear model."""

    def boost(part: TabularSplit, rows: Floats) -> Doubles:
        return fit_default(part, data.layout, len(data.classes)).answers(rows)

    categories = [index for index, card in enumerate(data.layout) if card.kind == "category"]
    numbers = [index for index in range(len(data.layout)) if index not in categories]
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), categories),
    )

    def classify(part: TabularSplit, rows: Floats) -> Doubles:
        model = make_pipeline(prepared, LogisticRegression(max_iter=1000)).fit(part.rows, part.targets)
        answers = np.zeros((len(rows), len(data.classes)))
        answers[:, model.classes_] = model.predict_proba(rows)
        return answers

    def regress(part: TabularSplit, rows: Floats) -> Doubles:
        return make_pipeline(prepared, Ridge()).fit(part.rows, part.targets).predict(rows)[:, None]

    if data.classes:
        return {DEFAULT: boost, "logistic regression": classify}
    return {DEFAULT: boost, "ridge regression": regress}


@dataclass
class NetworkMethod:
    """The recipe's own training as `cross_validate` takes it; a tenth of the rows chooses the epoch.

    Attributes:
        watch: gets every epoch.
    """

    network: NetworkSettings
    settings: FitSettings
    data: TabularData
    folder: Path
    accelerator: Accelerator
    watch: Watch | None = None

    def __call__(self, split: TabularSplit, rows: Floats) -> Doubles:
        kind, settings = self.data.kind, self.settings
        order = np.random.default_rng(settings.seed).permutation(len(split))
        tenth = max(1, len(order) // 10)
        validation, train = split.take(order[:tenth]), split.take(order[tenth:])
        model, learner = build(self.network, self.data, train, settings.seed), Rows(train, validation, kind)
        quiet = Console(quiet=True)
        fit(model, learner, settings, self.folder, accelerator=self.accelerator, console=quiet, watch=self.watch)
        return answers_of(model.cpu(), rows, target_scale(train, kind))
