"""Leaks: something beside the content that nearly determines the target, found before the training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import r2_score
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from training.data.dataset import Inspection

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.floating]

# The score on held-out items from which a clue is reported.
_ACCURACY, _R2 = 0.975, 0.99
# Its error must be at most this fraction of the error of the best other clue, and of a constant answer.
_FARTHEST = 0.15
# Fewer items prove nothing; more items than these in all clues would take more than a few seconds.
FEWEST, _MOST, _MOST_VALUES = 50, 10_000, 1_000_000
_FEWEST_PER_CLASS = 5
_FOLDS = 3


@dataclass(frozen=True, slots=True)
class Clue:
    """One value per item, shape (n,): float with NaN for a missing one, or int64 codes of words."""

    values: Array

    @property
    def is_words(self) -> bool:
        return self.values.dtype.kind in "iu"


def held_out_scores(clues: Mapping[str, Clue], targets: Array, *, regression: bool = False) -> dict[str, float]:
    """How well each clue alone predicts the targets of items that it was not fitted on: the accuracy, or R².

    Words are looked up; numbers go through a small decision tree or, for regression, a straight line if that is better.
    The scores are of three folds, of a sample if there are many items.
    """
    most = min(_MOST, max(1000, _MOST_VALUES // max(1, len(clues))))
    order = np.random.default_rng(0).permutation(len(targets))[:most]
    known = targets[order]
    folds = np.arange(len(order)) % _FOLDS
    score: Any = r2_score if regression else lambda targets, predicted: (targets == predicted).mean()

    def best(clue: Clue) -> float:
        methods = (_look_up,) if clue.is_words else (_tree, _line) if regression else (_tree,)
        predicted = (_predict(method, clue.values[order], known, folds, regression) for method in methods)
        return max(float(score(known, each)) for each in predicted)

    return {name: best(clue) for name, clue in clues.items()}


def warn_of_columns(inspection: Inspection, clues: Mapping[str, Clue], targets: Array, *, regression: bool) -> None:
    """Warns of columns that nearly determine the target alone, far better than all other columns do."""
    kinds = len(np.unique(targets))
    if len(targets) < FEWEST or (not regression and kinds * _FEWEST_PER_CLASS > len(targets)):
        return
    scores = held_out_scores(clues, targets, regression=regression)
    constant = 0.0 if regression else float(np.unique(targets, return_counts=True)[1].max() / len(targets))
    high = {name for name, score in scores.items() if score >= (_R2 if regression else _ACCURACY)}
    rest = max([constant, *(score for name, score in scores.items() if name not in high)])
    found = sorted(name for name in high if 1 - scores[name] <= _FARTHEST * (1 - rest))
    if not found:
        return
    best = max(scores.keys() - high, key=lambda name: scores[name], default=None)
    form = "R² {:.3f}" if regression else "accuracy {:.1%}"
    shown = ", ".join(f"{name!r} ({form.format(scores[name])})" for name in found[:8]) + ", …" * (len(found) > 8)
    others = f"; the best other column is {best!r} ({form.format(scores[best])})" if best else ""
    inspection.warnings.append(
        f"possible leak: one column alone predicts the target of rows that were held out: {shown}{others}. If it is "
        f"not known before the target is, leave it out: --drop {','.join(found)}"
    )


def _predict(method: Callable[..., Array], values: Array, targets: Array, folds: Array, regression: bool) -> Array:
    predicted = np.empty(len(targets), dtype=np.float64 if regression else targets.dtype)
    for fold in range(_FOLDS):
        known, asked = folds != fold, folds == fold
        predicted[asked] = method(values[known], targets[known], values[asked], regression)
    return predicted


def _look_up(values: Array, targets: Array, asked: Array, regression: bool) -> Array:
    """The mean or the commonest target of each value; of an unknown value, of all items."""
    words, codes = np.unique(values, return_inverse=True)
    if regression:
        answers = np.append(np.bincount(codes, weights=targets) / np.bincount(codes), targets.mean())
    else:
        classes, labels = np.unique(targets, return_inverse=True)
        pairs, counts = np.unique(codes * len(classes) + labels, return_counts=True)
        order = np.argsort(counts, kind="stable")  # the commonest of each word is written last
        answers = np.full(len(words) + 1, classes[np.bincount(labels).argmax()])
        answers[pairs[order] // len(classes)] = classes[pairs[order] % len(classes)]
    places = np.searchsorted(words, asked).clip(max=len(words) - 1)
    return answers[np.where(words[places] == asked, places, len(words))]


def _tree(values: Array, targets: Array, asked: Array, regression: bool) -> Array:
    if np.isnan(values).all():
        return np.full(len(asked), targets.mean() if regression else np.bincount(targets).argmax())
    kind: Any = DecisionTreeRegressor if regression else DecisionTreeClassifier
    # Leaves of two items keep a tree from learning items one by one where the order tells nothing.
    leaves = None if regression else max(8, 2 * len(np.unique(targets)))
    model = kind(max_leaf_nodes=leaves, min_samples_leaf=2, random_state=0).fit(values.reshape(-1, 1), targets)
    return np.asarray(model.predict(asked.reshape(-1, 1)))


def _line(values: Array, targets: Array, asked: Array, _: bool) -> Array:
    """A straight line; the mean target where the value is missing."""
    known = ~np.isnan(values)
    predicted = np.full(len(asked), targets.mean())
    if known.any() and np.ptp(values[known]):
        slope, intercept = np.polyfit(values[known].astype(np.float64), targets[known], 1)
        given = ~np.isnan(asked)
        predicted[given] = slope * asked[given] + intercept
    return predicted
