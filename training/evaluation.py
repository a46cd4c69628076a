"""How good a classifier of images or texts is: accuracy, figures per class, calibration, conformal sets, latency."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from service.inference.session import Session
from service.tasks.cards import Calibration, ClassifierMetrics, ClassMetrics, ConformalPoint
from training.calibrate import conformal_threshold, expected_calibration_error, fit_temperature, softmax

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
COVERAGES = tuple(round(0.80 + 0.01 * step, 2) for step in range(20))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything measured on the test split, and what the report draws.

    Attributes:
        metrics: accuracy and figures per class.
        calibration: the temperature and what it did.
        conformal: the table of label sets.
        confusion: int, shape (classes, classes): rows are true, columns predicted.
        probabilities: calibrated, shape (n, classes), of the test split.
        uncalibrated: the same at temperature 1.
        labels: shape (n,), true.
    """

    metrics: ClassifierMetrics
    calibration: Calibration
    conformal: tuple[ConformalPoint, ...]
    confusion: Ints
    probabilities: Floats
    uncalibrated: Floats
    labels: Ints


def evaluate(
    classes: tuple[str, ...],
    validation_logits: Floats,
    validation_labels: Ints,
    test_logits: Floats,
    test_labels: Ints,
) -> Evaluation:
    """Fits temperature and conformal thresholds on validation and measures everything on test.

    Args:
        classes: names, in the order of the logits.
        validation_logits: shape (n, classes).
        validation_labels: shape (n,).
        test_logits: shape (m, classes).
        test_labels: shape (m,).
    """
    temperature = fit_temperature(validation_logits, validation_labels)
    uncalibrated, probabilities = softmax(test_logits), softmax(test_logits / temperature)
    predicted = probabilities.argmax(1)
    indices = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        test_labels, predicted, labels=indices, zero_division=0.0
    )
    metrics = ClassifierMetrics(
        accuracy=float((predicted == test_labels).mean()),
        macro_f1=float(f1.mean()),
        negative_log_likelihood=float(log_loss(test_labels, _normalised(probabilities), labels=indices)),
        validation_accuracy=float((validation_logits.argmax(1) == validation_labels).mean()),
        per_class=tuple(
            ClassMetrics(label=name, precision=p, recall=r, f1=f, support=int(n))
            for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
        ),
    )
    calibration = Calibration(
        temperature=temperature,
        ece_before=expected_calibration_error(uncalibrated, test_labels),
        ece_after=expected_calibration_error(probabilities, test_labels),
    )
    validation_probabilities = softmax(validation_logits / temperature)
    return Evaluation(
        metrics,
        calibration,
        tuple(
            _conformal_point(coverage, validation_probabilities, validation_labels, probabilities, test_labels)
            for coverage in COVERAGES
        ),
        confusion_matrix(test_labels, predicted, labels=indices),
        probabilities,
        uncalibrated,
        test_labels,
    )


def _normalised(probabilities: Floats) -> npt.NDArray[np.float64]:
    # float32 sums miss 1 by more than scikit-learn tolerates.
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(1, keepdims=True)


def _conformal_point(
    coverage: float, validation: Floats, validation_labels: Ints, test: Floats, test_labels: Ints
) -> ConformalPoint:
    threshold = conformal_threshold(validation, validation_labels, coverage)
    inside = test >= threshold
    inside[np.arange(len(test)), test.argmax(1)] = True  # as served: the most likely label is always in the set
    return ConformalPoint(
        coverage=coverage,
        threshold=threshold,
        test_coverage=float(inside[np.arange(len(test)), test_labels].mean()),
        mean_set_size=float(inside.sum(1).mean()),
    )


def milliseconds_per_image(model: Path, images: npt.NDArray[np.uint8], batch: int, repeats: int = 30) -> float:
    """The median time per image in batches of `batch`, in ONNX Runtime on this machine's CPUs."""
    session = Session(model, "cpu")
    inputs = {session.inputs[0]: images[:batch]}
    times = []
    for _ in range(repeats + 3):
        started = time.perf_counter()
        session.run(inputs)
        times.append(time.perf_counter() - started)
    return float(np.median(times[3:])) * 1000 / len(inputs[session.inputs[0]])
