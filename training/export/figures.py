"""How good a classifier is: accuracy, figures per class, calibration, conformal sets, latency; 95 % intervals."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from service.inference.session import Session
from service.tasks.cards import Calibration, ClassifierMetrics, ClassMetrics, ConformalPoint
from training.data.lazy import cycled
from training.data.splits import split_validation
from training.export import calibration
from training.export.calibration import Floats, Ints, Scaling, conformal_threshold, cross_fitting

RESAMPLES = 1000
# After so many seconds, a graph is not timed again.
_MOST_SECONDS = 3.0

Interval = tuple[float, float]


def wilson(right: int, count: int) -> Interval:
    """The interval of a fraction of `count` items, of which `right` have a property (Wilson 1927).

    Unlike one standard error around the fraction it does not shrink to nothing at 0 and at 1.
    """
    low, high = binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(low), float(high)


def bootstrap(
    measure: Callable[[npt.NDArray[np.int64]], Mapping[str, float]],
    count: int,
    resamples: int = RESAMPLES,
    *,
    centred: Collection[str] = (),
) -> dict[str, Interval]:
    """The intervals of figures over items: their spread over test splits drawn from the test split (Efron 1979).

    Args:
        measure: the figures, given the indices of the `count` items, some of which are drawn more than once.
        centred: figures of which the interval is that of the deviation from their mean over the resamples.
    """
    random = np.random.default_rng(0)
    rows = [measure(random.integers(0, count, count)) for _ in range(resamples)]
    names = rows[0].keys() if rows else ()
    values = {name: np.array([row[name] for row in rows]) for name in names}
    return {name: _middle(each - each.mean() if name in centred else each) for name, each in values.items()}


def bootstrap_confusion(
    measure: Callable[[npt.NDArray[np.int64]], float], confusion: npt.NDArray[np.int64], resamples: int = RESAMPLES
) -> Interval:
    """The interval of a figure that only depends on the confusion matrix, whose cells are drawn."""
    random = np.random.default_rng(0)
    count = int(confusion.sum())
    draws = random.multinomial(count, (confusion / count).ravel(), size=resamples)
    return _middle(np.array([measure(draw.reshape(confusion.shape)) for draw in draws]))


def difference(value: float, interval: Interval, other: float, of_other: Interval) -> Interval:
    """The interval of `value - other`, two independent figures with intervals of their own.

    The distances to their bounds are added as squares (Zou and Donner 2008); with `wilson` for both this is Newcombe's
    interval of the difference of two fractions (1998, method 10). It is conservative for figures on the same items.
    """
    down = math.hypot(value - interval[0], of_other[1] - other)
    up = math.hypot(interval[1] - value, other - of_other[0])
    return value - other - down, value - other + up


def _middle(values: npt.NDArray[np.float64]) -> Interval:
    # A figure that is not a number (average precision without an object) says nothing.
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)


COVERAGES = tuple(round(0.80 + 0.01 * step, 2) for step in range(20))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured on the test split, and what the report draws.

    Attributes:
        intervals: 95 %, of the figures that are stated in one line, by their names.
        confusion: int, shape (classes, classes): rows are true, columns predicted.
        probabilities: calibrated, shape (n, classes), of the test split.
        uncalibrated: the same without scaling.
        labels: shape (n,), true.
    """

    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...]
    intervals: dict[str, Interval]
    confusion: Ints
    probabilities: Floats
    uncalibrated: Floats
    labels: Ints

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of a manifest, by name."""
        return {name: getattr(self, name) for name in ("metrics", "calibration", "conformal", "intervals")}


def evaluate(
    classes: tuple[str, ...],
    validation_logits: Floats,
    validation_labels: Ints,
    test_logits: Floats,
    test_labels: Ints,
    scaling: Scaling | None = None,
) -> Evaluation:
    """Fits scaling and conformal thresholds on a half of validation each, and measures everything on test.

    The half that the thresholds are fitted on must not have chosen anything: see `split_validation`.

    Args:
        classes: names, in the order of the logits.
        validation_logits: shape (n, classes), of validation items with labels of shape (n,); so are those of test.
        scaling: of the logits; None to fit it.
    """
    selection, calibration_half = split_validation(validation_labels)
    if scaling is None:
        scaling = calibration.fit_scaling(validation_logits[selection], validation_labels[selection])
    uncalibrated, probabilities = calibration.softmax(test_logits), scaling.probabilities(test_logits)
    predicted = probabilities.argmax(1)
    indices = np.arange(len(classes))
    confusion = confusion_matrix(test_labels, predicted, labels=indices)
    held_out = scaling.probabilities(validation_logits[calibration_half]), validation_labels[calibration_half]
    return Evaluation(
        metrics=ClassifierMetrics(
            accuracy=float((predicted == test_labels).mean()),
            macro_f1=macro_f1(confusion),
            negative_log_likelihood=float(log_loss(test_labels, _normalised(probabilities), labels=indices)),
            validation_accuracy=float((validation_logits.argmax(1) == validation_labels).mean()),
            per_class=class_metrics(classes, test_labels, predicted),
        ),
        calibration=Calibration(
            temperature=scaling.temperature,
            exponent=scaling.exponent,
            ece_before=calibration.expected_calibration_error(uncalibrated, test_labels),
            ece_after=calibration.expected_calibration_error(probabilities, test_labels),
        ),
        conformal=tuple(_conformal_point(coverage, *held_out, probabilities, test_labels) for coverage in COVERAGES),
        intervals=label_intervals(probabilities, test_labels, confusion),
        confusion=confusion,
        probabilities=probabilities,
        uncalibrated=uncalibrated,
        labels=test_labels,
    )


def class_metrics(classes: Sequence[str], labels: Ints, predicted: Ints) -> tuple[ClassMetrics, ...]:
    """Precision, recall, F1 and the number of items of each class, from true and predicted class indices."""
    columns = precision_recall_fscore_support(labels, predicted, labels=np.arange(len(classes)), zero_division=0.0)
    return tuple(
        ClassMetrics(label=name, precision=p, recall=r, f1=f, support=int(n))
        for name, p, r, f, n in zip(classes, *columns, strict=True)
    )


def macro_f1(confusion: Ints) -> float:
    """The mean F1 of the classes that have test items; a class without any says nothing about the classifier."""
    right, found, true = np.diag(confusion), confusion.sum(0), confusion.sum(1)
    f1 = 2 * right / np.maximum(found + true, 1)
    return float(f1[true > 0].mean())


def label_intervals(probabilities: Floats, labels: Ints, confusion: Ints) -> dict[str, Interval]:
    """The intervals of a classifier's figures.

    Args:
        probabilities: calibrated, shape (n, classes), of items with labels of shape (n,).
        confusion: shape (classes, classes): rows are true, columns predicted.
    """
    losses = -np.log(np.maximum(_normalised(probabilities)[np.arange(len(labels)), labels], 1e-12))
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    bins, gaps = calibration.bin_of(confidence), confidence - correct
    error = float(np.abs(np.bincount(bins, gaps)).sum() / len(labels))
    drawn = bootstrap(
        lambda chosen: {
            "negative_log_likelihood": float(losses[chosen].mean()),
            "ece_after": float(np.abs(np.bincount(bins[chosen], gaps[chosen])).sum() / len(labels)),
        },
        len(labels),
        centred={"ece_after"},
    )
    # Resampling adds noise to every bin, so the error of nearly every resample is larger than that of the items. The
    # interval is the spread of the resamples, laid around the error that is stated.
    low, high = drawn["ece_after"]
    return {
        "accuracy": wilson(int(np.trace(confusion)), len(labels)),
        "macro_f1": bootstrap_confusion(macro_f1, confusion),
        "negative_log_likelihood": drawn["negative_log_likelihood"],
        "ece_after": (max(0.0, error + low), error + high),
    }


def _normalised(probabilities: Floats) -> npt.NDArray[np.float64]:
    # float32 sums miss 1 by more than scikit-learn tolerates.
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(1, keepdims=True)


def _conformal_point(
    coverage: float, validation: Floats, validation_labels: Ints, test: Floats, test_labels: Ints
) -> ConformalPoint:
    def held_out(threshold_from: Ints, fold: Ints) -> npt.NDArray[np.bool_]:
        threshold = conformal_threshold(validation[threshold_from], validation_labels[threshold_from], coverage)
        return _in_set(validation[fold], validation_labels[fold], threshold)

    threshold = conformal_threshold(validation, validation_labels, coverage)
    covered = _in_set(test, test_labels, threshold)
    low, high = binomtest(int(covered.sum()), len(covered)).proportion_ci(0.95, "exact")
    cross_fitted = [held_out(others, fold) for others, fold in cross_fitting(len(validation))]
    return ConformalPoint(
        coverage=coverage,
        threshold=threshold,
        test_coverage=float(covered.mean()),
        test_interval=(float(low), float(high)),
        expected=calibration.expected_coverage(coverage, len(validation), len(test)),
        cross_fitted=float(np.concatenate(cross_fitted).mean()) if cross_fitted else None,
        # As served: the likeliest label is always in the set.
        mean_set_size=float((test >= threshold).sum(1).clip(min=1).mean()),
    )


def _in_set(probabilities: Floats, labels: Ints, threshold: float) -> npt.NDArray[np.bool_]:
    # The likeliest label is always in the set.
    reached: npt.NDArray[np.bool_] = probabilities[np.arange(len(labels)), labels] >= threshold
    return reached | (probabilities.argmax(1) == labels)


def milliseconds_per_image(model: Path, images: npt.NDArray[np.uint8], batch: int, repeats: int = 30) -> float:
    """The median time per image in batches of `batch`, in ONNX Runtime on this machine's CPUs.

    Slow graphs run fewer times, at least three: as often as takes about three seconds.
    """
    session = Session(model, "cpu")
    inputs = {session.inputs[0]: cycled(images, batch)}
    session.run(inputs)  # allocates memory
    times: list[float] = []
    while len(times) < 3 or (len(times) < repeats and sum(times) < _MOST_SECONDS):
        started = time.perf_counter()
        session.run(inputs)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1000 / batch
